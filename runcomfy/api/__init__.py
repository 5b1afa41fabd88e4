"""RunComfy's HTTP API: one method for each call, and what every answer means.

`client` makes the calls over `connections`, at a rate that `rate_limit` keeps for an account. `responses` and `outputs`
parse what succeeded, `refusals` what was refused; `requests` has what takes several calls: collect a result, cancel.
"""
