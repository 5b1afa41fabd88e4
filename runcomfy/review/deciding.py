"""Accept or reject a file that was set aside.

The decision is one compare-and-swap of the provenance below `quarantine/`: of two people, one decides, and the other
is told. What follows from it, in this order, can be killed anywhere and repeated: the copy at the usual place, with its
provenance last; the journal; and then the deletions.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from runcomfy.archive.copies import check_place_is_free, copy_to_usual_place, delete_copy, read_provenance
from runcomfy.archive.place import archived_as
from runcomfy.archive.provenance import PROVENANCE_CONTENT_TYPE, Provenance
from runcomfy.errors import InvalidInput, StorageError
from runcomfy.generation.destination import Destination
from runcomfy.journal import Entry, EntryState, find_request, record_reviewed
from runcomfy.media.poster import contact_sheet_key, poster_key
from runcomfy.redaction import redact
from runcomfy.review.waiting import Item, read_item
from runcomfy.storage.keys import aside_key, is_aside, usual_key
from runcomfy.storage.store import Store
from runcomfy.storage.versions import delete_for_good, why_unlisted
from runcomfy.values import ArchivedVideo, Review

__all__ = ["accept", "reject"]

_LONGEST_REASON = 2000
_LONGEST_NAME = 200


async def accept(destination: Destination, item: Item, *, by: str, reason: str | None = None) -> Item:
    """Accept a file: it comes to its usual place, with what is beside it, and the journal says so.

    Args:
        destination: The archive, and the journal.
        item: The file, as it was found.
        by: Who decides.
        reason: Why, if there is something to say.

    Returns:
        The file at its usual place.

    Raises:
        InvalidInput: its file is gone, somebody else has decided meanwhile, its generation was erased before or
            meanwhile, or `by` is empty.
        ArchiveConflict: another object is at its usual place; nothing was changed.
        StorageError: the store refused; repeat it.
    """
    review = _review("accepted", by, reason)
    generation = await _refuse_erased(destination, item)
    moved = await asyncio.to_thread(_moved, item, review)
    entry = await _record(destination, moved, generation)
    if entry is not None and entry.state is EntryState.ERASED:
        await asyncio.to_thread(_forget, item.store, item.key)
        raise InvalidInput(
            f"Generation {entry.generation_key[:12]} was erased by a person meanwhile, so what was copied of it is "
            "removed again.",
            generation_key=entry.generation_key,
        )
    if is_aside(item.store.prefix, item.key):
        await asyncio.to_thread(delete_copy, item.store, item.key)
    return moved


async def reject(
    destination: Destination, item: Item, *, by: str, reason: str | None = None, delete: bool = False
) -> Item:
    """Reject a file: it stays where it is, and a rerun of its generation ends with `OutputRejected`.

    Args:
        destination: The archive, and the journal.
        item: The file, as it was found.
        by: Who decides.
        reason: Why, if there is something to say.
        delete: Whether to delete the file, its poster and its contact sheet; the provenance stays.

    Returns:
        The file with the decision.

    Raises:
        InvalidInput: it was accepted, it is at its usual place already, its generation was erased, or `by` is empty.
        StorageError: the store refused; repeat it.
    """
    review = _review("rejected", by, reason, deleted=delete)
    generation = await _refuse_erased(destination, item)
    decided = await asyncio.to_thread(_rejected, item, review)
    await _record(destination, decided, generation)
    if decided.review is not None and decided.review.deleted:
        await asyncio.to_thread(_delete_files, item.store, item.key)
        decided = replace(decided, has_file=False)
    return decided


def _review(decision: str, by: str, reason: str | None, *, deleted: bool = False) -> Review:
    name, why = _line(by), _line(reason or "")
    if not name or len(name) > _LONGEST_NAME:
        raise InvalidInput(f"Say who decides, in 1 to {_LONGEST_NAME} characters. Nothing was changed.")
    if len(why) > _LONGEST_REASON:
        raise InvalidInput(f"The reason has more than {_LONGEST_REASON} characters. Nothing was changed.")
    return Review.model_validate(
        {"decision": decision, "by": redact(name), "at": datetime.now(UTC), "reason": redact(why) or None}
        | {"deleted": deleted}
    )


def _line(text: str) -> str:
    """One line of what a person wrote, without control characters."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


async def _refuse_erased(destination: Destination, item: Item) -> str | None:
    """Return the key of a file's generation, if any is known; its provenance has none where no journal was asked.

    Raises:
        InvalidInput: a person erased it.
    """
    key = item.provenance.generation_key
    if key is None and (known := await find_request(destination.journal, item.provenance.request_id)) is not None:
        key = known.entry.generation_key
    found = await destination.journal.read(key) if key is not None else None
    if found is not None and found.entry.state is EntryState.ERASED:
        raise InvalidInput(
            f"Generation {found.entry.generation_key[:12]} was erased by a person: erase it again, which removes "
            f"{item.uri}. Nothing was changed.",
            generation_key=found.entry.generation_key,
        )
    return key


async def _record(destination: Destination, item: Item, generation: str | None) -> Entry | None:
    """Record in the journal where the file is, and what was decided; by now somebody else may have decided again.

    Returns:
        The generation as it is now; `None` if the journal does not know it.
    """
    store = item.store
    places = (aside_key(store.prefix, item.key), usual_key(store.prefix, item.key))

    async def current() -> ArchivedVideo | None:
        for place in places if is_aside(store.prefix, item.key) else reversed(places):
            if (found := await asyncio.to_thread(read_provenance, store, place)) is not None:
                return archived_as(store, place, found[0], already_archived=True)
        return None

    return await record_reviewed(destination.journal, generation, current) if generation is not None else None


def _moved(item: Item, review: Review) -> Item:
    """Decide, and copy the file to its usual place."""
    store, usual = item.store, usual_key(item.store.prefix, item.key)
    if not is_aside(store.prefix, item.key):  # it was accepted, and moved
        if item.state != "accepted":
            raise InvalidInput(f"{item.uri} was not set aside. Nothing was changed.")
        return item
    whole = check_place_is_free(store, usual, item.provenance)
    if whole is None and not item.has_file and store.head(item.key) is None:
        why = f" It was {item.review.sentence}." if item.review is not None else ""
        raise InvalidInput(f"{item.uri} is not in the bucket any more, so it cannot be accepted.{why}")
    if item.review is not None and item.review.deleted and whole is None:
        raise InvalidInput(f"{item.uri} was {item.review.sentence}, and its file is being deleted.")
    if whole is not None and item.review is None:  # another worker archived it, too: that one stays
        return Item(store, usual, whole)
    decided = item if item.state == "accepting" else _decided(item, review)
    if whole is None and decided.key != usual:
        try:
            copy_to_usual_place(store, item.key, usual, _described_at(store, usual, decided.provenance))
        except StorageError as error:  # somebody else may have accepted it, too, and was faster
            if error.http_status != 404 or check_place_is_free(store, usual, item.provenance) is None:
                raise
    there = read_provenance(store, usual)
    if there is None:
        raise StorageError(f"{store.uri(usual)}.json is not there any more. Accept it again.", key=f"{usual}.json")
    return Item(store, usual, there[0], True, there[1])


def _rejected(item: Item, review: Review) -> Item:
    """Decide that it is not to be used."""
    store, usual = item.store, usual_key(item.store.prefix, item.key)
    if item.state in ("accepting", "accepted") and item.review is not None:
        finish = " Accept it again to finish that." if item.state == "accepting" else ""
        raise InvalidInput(
            f"{item.uri} was {item.review.sentence}. What was accepted cannot be rejected any more.{finish} To remove "
            "it, erase its generation: `prefect-runcomfy erase --help`."
        )
    if (there := read_provenance(store, usual)) is not None and store.head(usual) is not None:
        raise InvalidInput(
            f"This output is at its usual place as well, {there[0].uri}, where another worker put it: accept this "
            "copy, which removes it here, or erase the generation. Nothing was changed."
        )
    if item.review is not None and (item.review.deleted or not review.deleted):
        return item  # decided before
    if item.review is not None:  # who rejected it, when and why stays; its file goes
        review = item.review.model_copy(update={"deleted": True})
    return _decided(item, review)


def _decided(item: Item, review: Review) -> Item:
    """Write the decision, unless somebody else has decided since the file was found."""
    store, name = item.store, f"{item.key}.json"
    decided = item.provenance.model_copy(update={"review": review})
    document = decided.to_json()
    try:
        tag = store.replace_if(name, document, etag=item.tag, content_type=PROVENANCE_CONTENT_TYPE)
    except StorageError as error:
        if error.error_code != "NotImplemented":
            raise
        tag = _without_condition(store, item, document)  # a store without conditional writes
    if tag is not None:
        return replace(item, provenance=decided, tag=tag)
    now = read_item(store, item.key) or read_item(store, usual_key(store.prefix, item.key))
    if now is not None and now.review is not None and now.review.decision == review.decision == "accepted":
        return now  # both want the same; or it is our own write, whose answer was lost
    if now is not None and now.review == review:
        return now
    said = f": it was {now.review.sentence}" if now is not None and now.review is not None else ""
    raise InvalidInput(f"Somebody else has decided about {item.uri} meanwhile{said}. Look at it again.")


def _without_condition(store: Store, item: Item, document: bytes) -> str | None:
    now = read_provenance(store, item.key)
    if now is None or now[1] != item.tag:
        return None
    store.put(f"{item.key}.json", document, content_type=PROVENANCE_CONTENT_TYPE)
    written = read_provenance(store, item.key)
    return written[1] if written is not None and written[0].to_json() == document else None


def _described_at(store: Store, key: str, decided: Provenance) -> Provenance:
    """Return the provenance that an accepted file has at its usual place."""
    poster = store.uri(poster_key(key)) if decided.poster_uri else None
    sheet = store.uri(contact_sheet_key(key)) if decided.contact_sheet_uri else None
    places = {"uri": store.uri(key), "poster_uri": poster, "contact_sheet_uri": sheet, "set_aside": False}
    return decided.model_copy(update=places)


def _forget(store: Store, key: str) -> None:
    """Delete a file in both of its places for good: whoever erased it may have come before the copy was complete."""
    versions = not why_unlisted(store)
    for place in (aside_key(store.prefix, key), usual_key(store.prefix, key)):
        for each in (poster_key(place), contact_sheet_key(place), place, f"{place}.json"):
            delete_for_good(store, each, store.bucket, versions=versions)


def _delete_files(store: Store, key: str) -> None:
    for each in (poster_key(key), contact_sheet_key(key), key):
        store.delete(each)
