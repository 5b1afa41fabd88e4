"""Nouns: the configuration and secrets of RunComfy that Prefect stores.

Register them with `prefect block register -m blocks`; then fill them in on the Blocks page of the Prefect UI.
`runcomfy_credentials` is the account, `media_store` the bucket; `travelling` sends a block to another process without
its secrets, and `prefect_api` says in words that Prefect's API is away, or what it refuses.
"""

from blocks.media_store import MediaStore
from blocks.runcomfy_credentials import RunComfyCredentials

__all__ = ["MediaStore", "RunComfyCredentials"]
