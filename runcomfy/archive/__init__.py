"""Bring one output into the bucket: exactly one whole, checked object with its provenance, whatever breaks.

`archive` is what others call. `attempt` is one attempt in a thread: `transfer` reads the bytes into a `temporary_file`,
`receive` checks them, `signing` signs them, `place` decides whether an object that exists already is this output, and
writes the provenance last (`provenance` is its schema). `copies` brings what was set aside to its usual place.
"""
