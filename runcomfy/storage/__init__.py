"""A bucket and a prefix: get, create, compare-and-swap, list, delete and sign, and the names of everything in it.

`store` is what the rest of the engine uses, and creates without overwriting; `s3`, `clients`, `credentials`, `objects`,
`upload` and `copying` are how it speaks to the server, and `adapting` adds what a bucket's rules want
(`bucket_settings`) and leaves out what an older server refuses. `address` reads how people name a bucket. `keys` has
every name that the project gives, `garbage` removes what is no longer needed, `versions` what a bucket keeps of it,
`signed_urls` checks by `one_byte` that a signed URL can be read, and `commands` writes the commands that people paste.
"""
