"""`models`: the catalogue's models, and those that are pinned beside the journal."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from runcomfy.cli import environment
from runcomfy.cli.options import EPILOGUE, BucketOptions, Json
from runcomfy.cli.output import print_facts
from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, model_id_of

if TYPE_CHECKING:
    from runcomfy.models.pins import Pin

__all__ = ["models_app", "read_entry"]

models_app = App(
    name="models",
    help="Show RunComfy's models, and pin the schemas that runs read.",
    help_epilogue=EPILOGUE,
)
Model = Annotated[str, Parameter(help="The model's id, as on its page.")]
FieldKinds = Annotated[
    dict[str, str] | None,
    Parameter(
        name="--media",
        negative="",
        help="What a field holds, if that is not seen: --media.FIELD image (video, audio, none).",
    ),
]


@models_app.command(name="list")
def list_models(*, search: str = "", category: str = "", json: Json = False) -> None:
    """List the models of the catalogue, with their base prices."""

    async def ask() -> list[dict[str, Any]]:
        async with environment.client() as client:
            return await client.models(search=search, category=category)

    found = asyncio.run(ask())
    if json:
        print(json_module.dumps({"models": found}))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "name", "category", "from USD", "per"):
        table.add_column(column, justify="right" if column == "from USD" else "left", overflow="fold")
    for entry in found:
        price, categories = entry.get("base_price_usd"), entry.get("categories")
        table.add_row(
            str(entry.get("model_id", "")), str(entry.get("display_name") or ""),
            ", ".join(map(str, categories)) if isinstance(categories, list) else "",
            f"{price:g}" if isinstance(price, (int, float)) else "", str(entry.get("price_unit") or ""),
        )  # fmt: skip
    Console(soft_wrap=False).print(table)


@models_app.command(name="show")
def show(model: Model, /, *, where: BucketOptions, json: Json = False) -> None:
    """Show a model's inputs, media and price, and an example command; it is pinned if it is not yet."""
    from runcomfy.cli.model_output import print_model

    print_model(_pinned(model, where), as_json=json)


@models_app.command(name="add")
def add(
    model: Model,
    /,
    *,
    from_file: Annotated[
        Path | None, Parameter(help="A catalogue entry in a file, for machines without network.")
    ] = None,
    media: FieldKinds = None,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """Pin a model: keep its catalogue entry beside the journal, from where all runs read it."""
    from runcomfy.models.pins import Pin, note_of

    model_id = _catalogued(model)
    journal = environment.journal(where.bucket, where.journal, where.settings)

    async def pin() -> Pin:
        if from_file is not None:
            made = Pin.from_entry({"model_id": model_id, **read_entry(from_file)}, from_file.name, media=media)
        else:
            async with environment.client() as client:
                made = Pin.from_entry(await client.model(model_id), client.base_url, media=media)
        if made.model_id != model_id:
            raise InvalidInput(f"{from_file} is the entry of {made.model_id}, not of {model_id}.")
        await journal.check()
        if not await journal.create_note(note_of(model_id), made.to_json()):
            raise InvalidInput(f"{model_id} is pinned already. `prefect-runcomfy models refresh` replaces the pin.")
        return made

    _print_pin(asyncio.run(pin()), as_json=json)


@models_app.command(name="diff")
def diff(model: Model, /, *, where: BucketOptions, json: Json = False) -> None:
    """Show what the catalogue says otherwise than the pin; nothing is changed."""
    from runcomfy.models.differences import differences

    old, new = _both(_catalogued(model), where)
    changes = differences(old.input_schema, new.input_schema)
    if json:
        print(json_module.dumps({"model_id": old.model_id, "changes": changes}))
    else:
        print("\n".join(changes) or "The catalogue says what the pin says.")


@models_app.command(name="refresh")
def refresh(model: Model, /, *, media: FieldKinds = None, where: BucketOptions, json: Json = False) -> None:
    """Replace the pin by what the catalogue says now, and show what changed; generations that exist stay."""
    from runcomfy.models.differences import differences
    from runcomfy.models.pins import Pin, class_of, note_of

    model_id = _catalogued(model)
    old, new = _both(model_id, where)
    journal = environment.journal(where.bucket, where.journal, where.settings)
    replaced = old.refreshed(new, media)
    class_of(replaced)

    def change(current: bytes | None) -> bytes:
        if current is not None and Pin.from_json(current, model_id).sha256 != old.sha256:
            raise InvalidInput(f"Someone else refreshed {model_id} in the meantime. Compare it again.")
        return replaced.to_json()

    asyncio.run(journal.update_note(note_of(model_id), change))
    changes = differences(old.input_schema, new.input_schema)
    if json:
        print(json_module.dumps({"model_id": model_id, "sha256": replaced.sha256, "changes": changes}))
    else:
        print("\n".join(changes) or "Nothing changed.")


def _catalogued(model: str) -> str:
    model_id = model_id_of(model, "MODEL")
    if model_id in MODELS:
        raise InvalidInput(f"{model_id} is built in: its inputs are part of this version, and are not pinned.")
    return model_id


def _pinned(model: str, where: BucketOptions) -> Pin:
    from runcomfy.generation.models import pin_of

    model_id = _catalogued(model)
    journal = environment.journal(where.bucket, where.journal, where.settings)

    async def ask() -> Pin:
        async with environment.client() as client:
            return await pin_of(model_id, client, journal)

    return asyncio.run(ask())


def _both(model_id: str, where: BucketOptions) -> tuple[Pin, Pin]:
    """Return the pin, and what the catalogue says now."""
    from runcomfy.models.pins import Pin, note_of

    journal = environment.journal(where.bucket, where.journal, where.settings)

    async def ask() -> tuple[Pin, Pin]:
        document = await journal.read_note(note_of(model_id))
        if document is None:
            raise InvalidInput(f"{model_id} is not pinned in this bucket. `prefect-runcomfy models add` pins it.")
        old = Pin.from_json(document, note_of(model_id))
        async with environment.client() as client:
            return old, Pin.from_entry(await client.model(model_id), client.base_url)

    return asyncio.run(ask())


def read_entry(path: Path) -> Mapping[str, Any]:
    """Read a catalogue entry from a file.

    Raises:
        InvalidInput: It is not there, or no JSON object.
    """
    try:
        entry = json_module.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InvalidInput(f"{path} is no JSON document.") from None
    if not isinstance(entry, dict):
        raise InvalidInput(f"{path} is no entry of the catalogue: it is no JSON object.")
    return entry


def _print_pin(pin: Pin, *, as_json: bool) -> None:
    facts = {
        "model_id": pin.model_id,
        "sha256": pin.sha256,
        "pinned_at": pin.pinned_at.isoformat(),
        "source": pin.source,
    }
    print_facts("Pinned", facts | {"source": pin.source}, as_json=as_json)
