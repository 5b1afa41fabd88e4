"""Whether archived files can be signed as a block or the environment says; nothing is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from runcomfy.archive.signing import environment_signing
from runcomfy.content_credentials import Signing
from runcomfy.doctor.findings import Diagnosis, ok, warning
from runcomfy.doctor.running import Check, in_thread

__all__ = ["signature_check"]


async def _of_environment() -> Signing | None:
    return environment_signing()


def signature_check(
    find: Callable[[], Awaitable[Signing | None]] = _of_environment, *, needs: Sequence[str] = ()
) -> Check:
    """Return the check that signs a tiny image and reads its signature.

    Args:
        find: Returns what signs.
        needs: Names of the checks that this depends on.
    """

    async def check() -> Diagnosis:
        return await _tried_out(await find())

    return Check("Archive", "signature", check, needs=tuple(needs), seconds=60)


async def _tried_out(signing: Signing | None) -> Diagnosis:
    if signing is None:
        return ok("not configured: files are archived unsigned (docs/content-credentials.md)")
    await in_thread(signing.check)
    if not signing.works:
        return warning(
            "A tiny image could not be signed: files are archived unsigned, with a warning each.",
            "Look at key, KMS, time-stamp authority. With RUNCOMFY_SIGN_REQUIRED=yes, or sign_required of the block, "
            "this says why.",
        )
    return ok(f"a tiny image was signed with the key {signing.settings.key_name}, and its signature holds")
