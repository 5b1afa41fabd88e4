"""What only an extra installs is imported inside `needed`; where it is missing, one sentence says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runcomfy.errors import ConfigurationError

__all__ = ["needed", "not_installed"]

_OURS = ("runcomfy", "prefect_runcomfy", "blocks", "tasks", "flows", "deployments")


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Surround the imports of packages that an extra installs.

    Args:
        extra: Its name in `pyproject.toml`.
        what: What needs them, as the beginning of a sentence: "A report".

    Raises:
        ConfigurationError: a package is not installed, or cannot be loaded. Our own modules' errors stay as they are.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:
            raise
        if isinstance(error, ModuleNotFoundError):
            raise not_installed(extra, what, name) from None
        loaded = f"{what} needs {name or 'a package'}, which cannot be loaded ({error}): {_advice(extra)}."
        raise ConfigurationError(loaded) from None


def not_installed(extra: str, what: str, name: str) -> ConfigurationError:
    """Return the error that says that a package is missing.

    Args:
        extra: The extra that installs it.
        what: What needs it, as the beginning of a sentence.
        name: What is missing.
    """
    return ConfigurationError(f"{what} needs {name}, which is not installed: {_advice(extra)}.")


def _advice(extra: str) -> str:
    """Return what to run; pip knows the extras of what it has installed, from a wheel as from a checkout."""
    return f'run `pip install "prefect-runcomfy[{extra}]"`'
