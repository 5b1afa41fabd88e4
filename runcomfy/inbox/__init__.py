"""The inbox: pictures that arrive in a bucket, and what is asked for with each of them.

`notices` reads what a bucket tells a queue, `queue` holds messages until their work is safe, `pictures` finds the
pictures that stand in the bucket, `wishes` says what each is to become, `ledger` remembers what became of it.
`taking` works off a queue, a bounded number of messages at a time; `reception` takes one picture from its arrival to
its end.
"""
