"""Sign a file on this disk: into another one, so that what was downloaded stays as it was."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from runcomfy.content_credentials.reading import library, read_credentials
from runcomfy.content_credentials.settings import SigningSettings
from runcomfy.content_credentials.signer import Key, open_key
from runcomfy.content_credentials.statement import LABEL, Statement
from runcomfy.errors import ConfigurationError, RunComfyError
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE

__all__ = ["SIGNED_TYPES", "Ingredient", "Signing", "Unsigned"]

logger = logging.getLogger(__name__)

SIGNED_TYPES = frozenset({"video/mp4", "image/jpeg", "image/png", "image/webp", "audio/mpeg", "audio/wav"})
"""The media types that are signed; all others are archived without."""
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes some tens of megabytes
_RECHECK_SECONDS = 0.1
_MOST_SECONDS, _FAILURE_HOLDS_SECONDS = 120.0, 60.0
_QUIET = {"builder": {"thumbnail": {"enabled": False}}}  # a small image of somebody's input is not ours to publish


def _free() -> None:
    """Free all: in a forked process, nobody is left who would."""
    global _AT_ONCE
    _AT_ONCE = threading.BoundedSemaphore(2)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)


class Unsigned(Exception):
    """Why a file could not be signed, in words, without secrets."""


class Ingredient(NamedTuple):
    """A file that another one was made of."""

    title: str
    content_type: str
    read: Callable[[], bytes]


class Signing:
    """Signs files as the settings say; one for a process. Thread-safe.

    Args:
        settings: Who signs.
        program: Name and version of this program, for the file.
    """

    def __init__(self, settings: SigningSettings, program: tuple[str, str]) -> None:
        self.settings, self._program = settings, program
        self.required = settings.required
        """Whether a file that cannot be signed is not archived."""
        self._checked, self._failed_at = False, 0.0
        self._why: str | None = None
        self._guard = threading.Lock()

    def __deepcopy__(self, memo: object) -> Signing:
        return self

    def check(self) -> None:
        """Sign a tiny image, before anything is paid for. Blocks.

        A success holds for the life of the process, and a failure for a minute: one that takes long to fail, such as
        a time-stamp authority that does not answer, would keep every generation waiting in turn.

        Raises:
            ConfigurationError: the extra, key or certificate cannot be used, or signing is required and does not work.
        """
        with self._guard:
            if self._checked:
                return
            if self._why is None or time.monotonic() - self._failed_at > _FAILURE_HOLDS_SECONDS:
                self._why = self._trouble()
                self._checked, self._failed_at = self._why is None, time.monotonic()
                if self._why is not None and not self.required:
                    logger.warning("Files may be archived unsigned: %s", self._why)
            if self._why is not None and self.required:
                raise ConfigurationError(f"Files cannot be signed: {self._why} Nothing was paid for.")

    def _trouble(self) -> str | None:
        """Return why nothing can be signed now; `None` if it can."""
        try:
            self._try_out()
        except ConfigurationError:
            raise
        except (RunComfyError, Unsigned) as error:
            return error.message if isinstance(error, RunComfyError) else str(error)
        return None

    @property
    def works(self) -> bool:
        """Whether something was signed when it was tried out."""
        return self._checked

    def sign(
        self, source: BinaryIO, into: BinaryIO, content_type: str, statement: Statement, *,
        ingredients: tuple[Ingredient, ...] = (), check: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Write a signed copy of a file. Blocks; what `check` raises ends the waiting, whatever the signer does.

        Args:
            source: The file, seekable.
            into: An empty file, seekable.
            content_type: The file's media type, one of `SIGNED_TYPES`.
            statement: What is said about it.
            ingredients: The files that it was made of; one that cannot be read is left out.
            check: Called while waiting.

        Raises:
            Unsigned: it could not be signed; `into` is not to be used.
        """
        while not _AT_ONCE.acquire(timeout=_RECHECK_SECONDS):
            check()
        ended, failed = threading.Event(), list[BaseException]()

        def work() -> None:
            try:
                self._sign(source, into, content_type, statement, ingredients)
            except BaseException as error:
                failed.append(error)
            finally:
                _AT_ONCE.release()
                ended.set()

        threading.Thread(target=work, name="sign", daemon=True).start()
        waited = 0.0
        while not ended.wait(_RECHECK_SECONDS):
            check()
            waited += _RECHECK_SECONDS
            if waited > _MOST_SECONDS:
                raise Unsigned(f"signing took longer than {_MOST_SECONDS:.0f} s.")
        if failed:
            raise _in_words(failed[0]) from None

    @cached_property
    def _key(self) -> Key:
        return open_key(self.settings)

    def _sign(
        self,
        source: BinaryIO,
        into: BinaryIO,
        content_type: str,
        statement: Statement,
        ingredients: tuple[Ingredient, ...],
    ) -> None:
        c2pa, key = library("Signing files"), self._key
        trouble = list[RunComfyError]()

        def signature(data: bytes) -> bytes:
            try:
                return key.sign(data)
            except RunComfyError as error:  # the library does not hand it on
                trouble.append(error)
                raise

        source.seek(0)
        signed_before = read_credentials(source, content_type) is not None
        source.seek(0)
        algorithm = getattr(c2pa.C2paSigningAlg, "ED25519" if key.algorithm == "EdDSA" else key.algorithm)
        tsa = self.settings.tsa_url or None
        with (
            c2pa.Context(c2pa.Settings.from_dict(_QUIET)) as context,
            c2pa.Builder(self._manifest(content_type, statement, made=not signed_before), context) as builder,
            c2pa.Signer.from_callback(signature, algorithm, key.certificates, tsa) as signer,
        ):
            if signed_before:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)  # keeps what the service signed as its parent
            for ingredient in ingredients:
                _add(builder, ingredient)
            try:
                builder.sign(signer, content_type, source, into)
            except Exception:
                if trouble:
                    raise trouble[0] from None
                raise

    def _manifest(self, content_type: str, statement: Statement, *, made: bool) -> dict[str, Any]:
        name, version = self._program
        created = {
            "action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE,
            "softwareAgent": {"name": f"RunComfy {statement.model_id}"},
        }  # fmt: skip
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}] if made else []
        return {
            "claim_generator_info": [{"name": name, "version": version}],
            "format": content_type,
            "assertions": [*assertions, {"label": LABEL, "data": statement.model_dump(mode="json")}],
        }

    def _try_out(self) -> None:
        image, signed = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (8, 8)).save(image, "PNG")
        statement = Statement(
            model_id="-", request_id="-", output_index=0, source_sha256="0" * 64, generation_sha256="0" * 64
        )
        _ = self._key  # what is wrong with it is said as it is
        self.sign(image, signed, "image/png", statement)
        found = read_credentials(signed, "image/png")
        if found is None or not found.is_valid:
            what = ", ".join(found.problems) if found else "no signature can be read"
            raise Unsigned(f"what is signed with {self.settings.certificate_name} is not valid: {what}.")


def _add(builder: Any, ingredient: Ingredient) -> None:
    try:
        described = {"title": ingredient.title, "relationship": "inputTo"}
        builder.add_ingredient(described, ingredient.content_type, io.BytesIO(ingredient.read()))
    except Exception as error:  # its hash is among the inputs in any case
        logger.info(
            "The input %s is no ingredient of the file's credentials: %s", ingredient.title, type(error).__name__
        )


def _in_words(error: BaseException) -> BaseException:
    if isinstance(error, ConfigurationError | Unsigned) or not isinstance(error, Exception):
        return error if isinstance(error, Unsigned | ConfigurationError) else Unsigned(f"{type(error).__name__}.")
    if isinstance(error, RunComfyError):
        return Unsigned(error.message)
    if isinstance(error, OSError):
        return Unsigned(f"{error.strerror or type(error).__name__}.")
    return Unsigned(f"the library says {' '.join(str(error).split())[:200].rstrip('.')}.")
