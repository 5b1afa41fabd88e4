"""The doctor signs a tiny image, where files are to be signed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runcomfy.doctor import Diagnosis, Mark, run_checks
from runcomfy.doctor.signature import signature_check
from tests.runcomfy.content_credentials.certificates import make_chain


def verdict() -> Diagnosis:
    return asyncio.run(run_checks([signature_check()]))[0].verdict


def test_the_signer_is_tried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off, on, broken, and one that does not answer though nothing depends on it."""
    for name in ("CERTIFICATE", "KEY", "KMS_KEY", "TSA_URL", "REQUIRED"):
        monkeypatch.delenv(f"RUNCOMFY_SIGN_{name}", raising=False)
    chain = make_chain(tmp_path)
    assert verdict().mark is Mark.OK and "not configured" in verdict().found

    monkeypatch.setenv("RUNCOMFY_SIGN_CERTIFICATE", str(chain.certificate))
    assert verdict().mark is Mark.BROKEN
    monkeypatch.setenv("RUNCOMFY_SIGN_KEY", str(chain.key))
    assert verdict().mark is Mark.OK and "holds" in verdict().found
    monkeypatch.setenv("RUNCOMFY_SIGN_TSA_URL", "http://127.0.0.1:9/")
    assert verdict().mark is Mark.WARNING
    monkeypatch.setenv("RUNCOMFY_SIGN_REQUIRED", "yes")
    assert verdict().mark is Mark.BROKEN
