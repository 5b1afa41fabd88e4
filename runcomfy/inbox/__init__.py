"""The inbox: images that arrive in a bucket, each with its request spec.

`notices` reads what a bucket sends to a queue, `queue` receives and deletes messages, `images` lists the images in
the bucket, `request_spec` reads what each is to become (`target`: which model, and what of it arrives; `sidecars`: what
is said beside it), `ledger` records how it ended. `consumer` consumes a queue, a bounded number of messages at a time;
`processor` processes one image, and `run` is one run of all that.
"""
