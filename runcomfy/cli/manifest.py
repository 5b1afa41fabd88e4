"""`manifest`: what helps to write one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from runcomfy.cli import environment
from runcomfy.cli.options import EPILOGUE, BucketOptions
from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, ModelInputs, model_id_of

__all__ = ["NO_BUCKET", "class_for", "manifest_app"]

NO_BUCKET = BucketOptions(bucket="")

manifest_app = App(name="manifest", help="Write the manifest of a batch.", help_epilogue=EPILOGUE)


@manifest_app.command(name="template")
def template(
    model: Annotated[str, Parameter(help="The model's id, as on its page, or image-to-video, or text-to-video.")],
    /,
    *,
    format: Annotated[Literal["csv", "jsonl"], Parameter(help="What it is written as.")] = "csv",
    output: Annotated[Path | None, Parameter(help="A new file; otherwise it is written to stdout.")] = None,
    where: BucketOptions = NO_BUCKET,
) -> None:
    """Write a manifest to begin with: a row with samples, and above it a comment about each column.

    Replace the row; the comments may stay. With a bucket, the inputs are those of the model's pin.
    """
    from runcomfy.manifest.template import manifest_template

    text = manifest_template(class_for(model, where), format).decode()
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidInput(f"{output} exists already, and was left as it is. Name a new file.") from None
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}. Name another file.") from None


def class_for(model: str, where: BucketOptions) -> type[ModelInputs]:
    """Return the class of a model's inputs: of its pin where a bucket is named, else of the catalogue.

    Raises:
        InvalidInput: There is no such model.
        ServiceError: The catalogue could not be read.
        StorageError: The pin could not be read or written.
    """
    from runcomfy.generation.models import model_class
    from runcomfy.models.pins import Pin, class_of

    model_id = model_id_of(model, "MODEL")
    if model_id in MODELS:
        return MODELS[model_id]
    kept = where.bucket.strip() and where.journal.strip() != "none"
    journal = environment.journal(where.bucket, where.journal, where.settings) if kept else None

    async def ask() -> type[ModelInputs]:
        async with environment.client() as client:
            if journal is not None:
                return await model_class(model_id, client, journal)
            return class_of(Pin.from_entry(await client.model(model_id), client.base_url))

    return asyncio.run(ask())
