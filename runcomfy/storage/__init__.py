"""A bucket and a prefix: get, create, compare-and-swap, list, delete and sign, and the names of everything in it.

`store` is what the rest of the engine uses; `s3`, `clients`, `objects` and `upload` are how it speaks to the server.
`keys` knows every name that the project gives, `garbage` takes away what nobody needs any more, and `signed_urls` tries
out whether a URL that was signed can be read.
"""
