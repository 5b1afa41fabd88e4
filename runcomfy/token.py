"""Whether the account's token is refused, or only one call was."""

from __future__ import annotations

import uuid

from runcomfy.client import RunComfyClient
from runcomfy.errors import AuthenticationError, RunComfyError

__all__ = ["token_is_refused"]


async def token_is_refused(client: RunComfyClient) -> bool:
    """Ask about a request that there is not, and return whether that is refused for the token, too.

    One call that is refused may be a proxy's word, or a replica's that lags. An answer that says nothing about the
    token counts as none: what comes next finds out.
    """
    try:
        await client.status(str(uuid.uuid4()))
    except AuthenticationError:
        return True
    except RunComfyError:
        return False
    return False
