"""The inbox: images that arrive in a bucket, and what is asked for with each of them.

`notices` reads what a bucket tells a queue, `queue` holds messages until their work is safe, `images` finds the
images that are in the bucket, `request_spec` says what each is to become, `ledger` remembers what became of it.
`consumer` works off a queue, a bounded number of messages at a time; `processor` takes one image from its arrival to
its end, and `run` is one run of all that.
"""
