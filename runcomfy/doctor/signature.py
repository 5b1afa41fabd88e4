"""Whether archived files can be signed as the environment says; nothing is stored."""

from __future__ import annotations

from runcomfy.archive.signing import environment_signing
from runcomfy.doctor.findings import Diagnosis, ok, warning
from runcomfy.doctor.running import Check, in_thread

__all__ = ["signature_check"]


def signature_check() -> Check:
    """Return the check that signs a tiny image and reads its signature."""
    return Check("Archive", "signature", _signature, seconds=60)


async def _signature() -> Diagnosis:
    signing = environment_signing()
    if signing is None:
        return ok("not configured: files are archived unsigned (docs/content-credentials.md)")
    await in_thread(signing.check)
    if not signing.works:
        return warning(
            "A tiny image could not be signed: files are archived unsigned, with a warning each.",
            "Look at key, KMS and time-stamp authority; with RUNCOMFY_SIGN_REQUIRED=yes this says why.",
        )
    return ok(f"a tiny image was signed with the key {signing.settings.key_name}, and its signature holds")
