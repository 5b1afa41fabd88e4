"""Bring one output into the bucket: exactly one whole, checked object with its provenance, whatever breaks.

`archive` is what others call. `attempt` is one try of it in a thread: `receive` takes the bytes into a `temporary_file`
and judges them, `place` knows whose the object is that exists already, and `provenance` is written last.
"""
