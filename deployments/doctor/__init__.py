"""`python -m deployments.doctor`: check what the deployments use. What needs no Prefect is in `runcomfy.doctor`.

`checks` is about the Prefect server's objects, `server` about the server itself, `parameters` about what deployments
were given, and `upkeep` about what lets them heal themselves.
"""
