"""A bucket and a prefix: get, create, compare-and-swap, list, delete and sign, and the names of everything in it.

`store` is what the rest of the engine uses, and creates without overwriting; `s3`, `clients`, `credentials`,
`objects` and `upload` are how it speaks to the server. `keys` has every name that the project gives, `garbage`
removes what is no longer needed, `signed_urls` checks by `one_byte` that a signed URL can be read, and `commands`
writes the commands that people paste.
"""
