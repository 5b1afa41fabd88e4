"""A server that signs as AWS documents it for KMS; moto's knows no digests, and salts RSA in another way.

Up to 4096 bytes are hashed by KMS, for more there is `MessageType: DIGEST`
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html); the salt of RSASSA-PSS is as long as the digest
(https://docs.aws.amazon.com/kms/latest/developerguide/symm-asymm-choose-key-spec.html).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.answering import Reply, answering

__all__ = ["KEYS", "Kms", "running_kms"]

KEYS: dict[str, Any] = {
    "ECC_NIST_P256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECC_NIST_P384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ECC_NIST_P521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA_2048": lambda: rsa.generate_private_key(65537, 2048),
}
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_MOST_BYTES = 4096


class Kms:
    """One key, and what it was asked for."""

    def __init__(self, kind: str) -> None:
        self.key = KEYS[kind]()
        self.url = ""
        self.asked: list[str] = []

    def answer(self, action: str, said: dict[str, str]) -> dict[str, str]:
        """Answer a call; `ValueError` for what KMS refuses."""
        if action == "GetPublicKey":
            public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return {"PublicKey": base64.b64encode(public).decode()}
        message, kind, how = base64.b64decode(said["Message"]), said["MessageType"], said["SigningAlgorithm"]
        self.asked.append(kind)
        hashed = _HASHES[how[-3:]]
        if len(message) > _MOST_BYTES or (kind == "DIGEST" and len(message) != hashed.digest_size):
            raise ValueError("the message has another length than it may have")
        by = Prehashed(hashed) if kind == "DIGEST" else hashed
        if how.startswith("ECDSA"):
            made = self.key.sign(message, ec.ECDSA(by))
        else:
            made = self.key.sign(message, padding.PSS(padding.MGF1(hashed), hashed.digest_size), by)
        return {"Signature": base64.b64encode(made).decode()}


@contextmanager
def running_kms(kind: str) -> Iterator[Kms]:
    """Serve a new key of a kind."""
    kms = Kms(kind)

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        try:
            status, said = 200, kms.answer(request.headers["X-Amz-Target"].rpartition(".")[2], json.loads(body))
        except ValueError:
            status, said = 400, {"__type": "ValidationException"}
        return Reply(json.dumps(said).encode(), status, "application/x-amz-json-1.1")

    with answering(answer) as kms.url:
        yield kms
