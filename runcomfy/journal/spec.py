"""The request spec: a generation of which only the inputs are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from runcomfy.api.client import is_local
from runcomfy.errors import InvalidInput
from runcomfy.journal.entry import Entry, EntryState, Event
from runcomfy.journal.journal import Journal
from runcomfy.models import MODELS, ModelInputs, check_inputs, earlier_key, generation_key
from runcomfy.models.staged import media_sha256, without_signatures
from runcomfy.texts import normal_text
from runcomfy.values import StagedFile, only_image

__all__ = ["GenerationSpec", "inputs_of", "known_key", "known_spec", "same_service"]


@dataclass(frozen=True)
class GenerationSpec:
    """The inputs of a generation, and who asks for it.

    Args:
        inputs: The checked inputs; an image's URL among them does not count.
        service: The base URL that it is submitted to.
        staged: The staged files, for models that take any.
        variation: Distinguishes generations that are meant to have the same inputs.
        run: Names the outermost run. One run pays once: if what it submitted failed, it does not submit again.
        flow_run: What else is known of the run, for a person.
        store: Where it is to be archived, as `s3://bucket/prefix/`.
        known_as: The key under which the journal has it, if that is an earlier version's (see `known_spec`).
    """

    inputs: ModelInputs
    service: str
    staged: tuple[StagedFile, ...] = ()
    variation: str = ""
    run: str = ""
    flow_run: dict[str, str] = field(default_factory=dict)
    store: str = ""
    known_as: str | None = None

    @property
    def key(self) -> str:
        """The generation's key: 64 hexadecimal digits."""
        if self.known_as is not None:
            return self.known_as
        return generation_key(self.inputs, media=media_sha256(self.inputs, self.staged), variation=self.variation)

    def intent(self, worker: str, lease_seconds: float = 180.0) -> Entry:
        """Return the first entry of this generation, an intent with a lease of this length."""
        now = datetime.now(UTC)
        image = only_image(self.staged)
        return Entry(
            generation_key=self.key,
            state=EntryState.INTENT,
            model_id=self.inputs.model_id,
            service=self.service,
            inputs=without_signatures(self.inputs, self.staged),
            image=image,
            staged=() if image else self.staged,
            variation=normal_text(self.variation),
            run=self.run,
            flow_run=self.flow_run,
            store=self.store,
            patience_seconds=lease_seconds,
            created_at=now,
            updated_at=now,
            history=(Event(at=now, state=EntryState.INTENT, worker=worker, attempt=1, run=self.run),),
        )

    def is_for(self, service: str) -> bool:
        """Whether an entry of that service may be about this generation."""
        return same_service(service, self.service)


async def known_spec(journal: Journal, spec: GenerationSpec) -> GenerationSpec:
    """Return the spec with the key under which the journal has its generation, or will have it.

    Raises:
        StorageError: the journal could not be read.
    """
    if spec.known_as is not None:
        return spec
    return replace(spec, known_as=await known_key(journal, spec.inputs, spec.staged, variation=spec.variation))


async def known_key(
    journal: Journal, inputs: ModelInputs, staged: Sequence[StagedFile] = (), *, variation: str = ""
) -> str:
    """Return the key under which the journal has a generation, or will have it.

    A text that is not in normal form (`runcomfy.texts`) had another key in earlier versions, and what was left out had
    another default in an earlier schema. An entry under that key that was begun before the schema was refreshed,
    in any state, may be paid for, and is continued there; nothing new is begun there, so the answer never changes. For
    all other texts, nothing is read.

    Raises:
        StorageError: the journal could not be read.
    """
    media = media_sha256(inputs, staged)
    earlier = earlier_key(inputs, media=media, variation=variation)
    found = await journal.read(earlier) if earlier is not None else None
    until = inputs.earlier_until
    if earlier is not None and found is not None and (until is None or found.entry.created_at < until):
        return earlier
    return generation_key(inputs, media=media, variation=variation)


def inputs_of(entry: Entry) -> ModelInputs | None:
    """Return the inputs of a generation in the journal; `None` if this version's model does not accept them.

    Its output is archived anyway, but not validated against the inputs.
    """
    model = MODELS.get(entry.model_id)
    try:
        return check_inputs(model, entry.inputs) if model else None
    except InvalidInput:
        return None


def same_service(one: str, other: str) -> bool:
    """Whether two base URLs are of one service; a sandbox is the same only as itself.

    The real service may be reached under another name, through a gateway; a sandbox is on this machine.
    """
    return one == other or not (is_local(one) or is_local(other))
