"""Whether the account's token is refused, or only one call was."""

from __future__ import annotations

import uuid

from runcomfy.client import RunComfyClient
from runcomfy.errors import AuthenticationError, RequestNotFound, RunComfyError

__all__ = ["token_is_refused"]


async def token_is_refused(client: RunComfyClient) -> bool:
    """Ask about a request that there is not, and return whether that is refused for the token, too; it costs nothing.

    One call that is refused may be a proxy's word, or about one model. Where this answer says nothing about the token,
    since what refuses does so in its own words, the balance is asked for; what is not confirmed then is not refused.
    """
    try:
        await client.status(str(uuid.uuid4()))
    except AuthenticationError:
        return True
    except RequestNotFound:
        return False
    except RunComfyError:
        pass
    try:
        await client.balance_usd()
    except AuthenticationError:
        return True
    except RunComfyError:
        pass
    return False
