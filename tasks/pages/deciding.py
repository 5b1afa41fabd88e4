"""How a person decides about a file that was set aside: the commands, for every page that shows one."""

from __future__ import annotations

from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.values import ArchivedVideo
from tasks.pages.markdown import code, console, text

__all__ = ["decisions", "how_to_decide", "review_command"]


def decisions(uri: str, options: StoreOptions) -> str:
    """Return the commands that decide about a file, each a block of its own.

    Args:
        uri: The file, `s3://bucket/key`.
        options: The store and its journal, as commands name them.
    """
    return "\n\n".join(console(review_command(word, uri, options)) for word in ("accept", "reject"))


def how_to_decide(video: ArchivedVideo, options: StoreOptions) -> str:
    """Return what a run's page says of a file that was set aside; nothing of another one.

    Args:
        video: The file.
        options: The store and its journal, as commands name them.
    """
    if video.review is not None:
        return f"**Set aside, and {text(video.review.sentence)}.**"
    if not video.set_aside:
        return ""
    said = f"**Set aside: a person has to decide about {code(video.key.rpartition('/')[2])}.**"
    how = (
        "The deployment `review` shows what waits, takes the decision, and sends the event once it is accepted; these "
        "commands send none:"
    )
    where = "It is below `quarantine/`, and no event said that it is there."
    return f"{said} {where} {how}\n\n{decisions(video.uri, options)}"


def review_command(word: str, uri: str | None, options: StoreOptions) -> str:
    """Return a command of `prefect-runcomfy review`, to paste.

    Args:
        word: `list`, `accept` or `reject`.
        uri: The file; `None` with `list`.
        options: The store and its journal.
    """
    return shell_command("review", word, *([uri] if uri else []), *options.for_journal)
