"""The columns of the catalogue, each with its type, its unit and what it means; `docs/catalogue.md` shows the same.

A reader that was written for one version reads the files of every later one: columns are never renamed, moved, retyped
or given another meaning; new ones come at the end, and are null in rows that were written before them.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types

__all__ = ["COLUMNS", "SCHEMA", "SCHEMA_VERSION", "VERSION_FIELD", "Column"]

SCHEMA_VERSION = 4
"""Raised by each new column. Readers need not check it; a writer does not touch files of a later one."""
VERSION_FIELD = b"runcomfy.catalogue.schema_version"
"""Where a file's metadata has the version."""

_TEXT, _SMALL, _WHOLE, _FLAG, _SECONDS = pa.string(), pa.int32(), pa.int64(), pa.bool_(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")
_USD = pa.decimal128(12, 6)  # sums to the cent in any order, which floats do not; the service counts in microdollars
_FILE = pa.struct(
    {
        "index": _SMALL, "uri": _TEXT, "provenance_uri": _TEXT, "sha256": _TEXT, "size_bytes": _WHOLE,
        "content_type": _TEXT, "container": _TEXT, "codec": _TEXT, "width": _SMALL, "height": _SMALL, "frames": _WHOLE,
        "frames_per_second": _SECONDS, "duration_seconds": _SECONDS,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column. `always` says that it is never null; `unit` is empty for texts and the like."""

    name: str
    type: pa.DataType
    about: str
    unit: str = ""
    always: bool = False


COLUMNS = (
    Column("id", _TEXT, "The row: the generation's key, or `request:<id>` for a request that the journal does not "
           "know (fetched by its id, or made without a journal).", always=True),
    Column("outcome", _TEXT, "`archived`, `failed`, `refused`, `cancelled`, `detached`, `uncertain`, `expired`, "
           "`released`, `erased` or `under_way`, as the journal has it.", always=True),
    Column("created_at", _TIME, "When its first attempt was about to be sent. Never changes; its day in UTC is the "
           "partition.", "UTC", always=True),
    Column("updated_at", _TIME, "When the outcome, or another fact, was recorded last.", "UTC", always=True),
    Column("generation_key", _TEXT, "SHA-256 over model, inputs, image and variation, hexadecimal."),
    Column("variation", _TEXT, "What distinguishes it from another generation with the same inputs."),
    Column("service", _TEXT, "Base URL of the service that it was submitted to; tells a sandbox from the real one."),
    Column("model_id", _TEXT, "RunComfy's id of the model.", always=True),
    Column("prompt", _TEXT, "The prompt as submitted; null where the catalogue is kept without prompts."),
    Column("prompt_sha256", _TEXT, "SHA-256 of the prompt's UTF-8 bytes, hexadecimal."),
    Column("image_uri", _TEXT, "Where the input image is, without any signature."),
    Column("image_sha256", _TEXT, "SHA-256 of the input image's bytes, hexadecimal."),
    Column("resolution", _TEXT, "Asked for: length of the shorter side, such as `720p`."),
    Column("aspect_ratio", _TEXT, "Asked for: width to height, such as `16:9`."),
    Column("num_frames", _SMALL, "Asked for: number of frames.", "frames"),
    Column("frames_per_second", _SMALL, "Asked for: frame rate.", "1/s"),
    Column("enable_prompt_expansion", _FLAG, "Asked for: whether the service may enrich the prompt."),
    Column("enable_safety_checker", _FLAG, "Asked for: safety checker."),
    Column("num_inference_steps", _SMALL, "Asked for: inference steps.", "steps"),
    Column("seed", _WHOLE, "Asked for: seed; null too where it needs more than 64 bits."),
    Column("settings_json", _TEXT, "Every input as a JSON object, but prompt and image."),
    Column("attempts", _SMALL, "How many times it was begun; 1 is no retry.", "attempts", always=True),
    Column("request_id", _TEXT, "The request of the latest attempt, if it was accepted."),
    Column("request_ids", pa.list_(_TEXT), "Every request that was accepted for it, the latest last."),
    Column("cost_usd", _USD, "What the service said that the latest request cost; null where it has not said.",
           "US dollars"),
    Column("requests_without_cost", _SMALL, "How many of its requests may be billed and are not in `cost_usd`; one "
           "whose answer is unknown counts.", "requests", always=True),
    Column("submitted_at", _TIME, "When the latest request was accepted, by our clock.", "UTC"),
    Column("noticed_at", _TIME, "When we saw that it had succeeded.", "UTC"),
    Column("archived_at", _TIME, "When its files were in the bucket.", "UTC"),
    Column("queued_seconds", _SECONDS, "In the service's queue, as observed by polling.", "s"),
    Column("running_seconds", _SECONDS, "Running at the service, as observed by polling.", "s"),
    Column("archiving_seconds", _SECONDS, "From `noticed_at` to `archived_at`.", "s"),
    Column("polls", _SMALL, "How many times the status was asked for.", "calls"),
    Column("reason", _TEXT, "Why it is in this state, without secrets; the service's own account for a failure."),
    Column("warnings", pa.list_(_TEXT), "What is other in the files than was asked for, one sentence each."),
    Column("worker", _TEXT, "`host:pid` of the process that recorded the outcome."),
    Column("flow_run_id", _TEXT, "The Prefect flow run that submitted the latest attempt; for a request without "
           "journal, the one that archived it."),
    Column("flow_run_name", _TEXT, "Its name."),
    Column("flow_name", _TEXT, "The name of its flow."),
    Column("deployment_id", _TEXT, "Its deployment."),
    Column("output_count", _SMALL, "How many files are archived.", "files", always=True),
    Column("output_bytes", _WHOLE, "Size of all its files together.", "bytes", always=True),
    Column("video_uri", _TEXT, "The first file, `s3://bucket/key`."),
    Column("video_provenance_uri", _TEXT, "Its provenance document, beside it."),
    Column("video_sha256", _TEXT, "SHA-256 of its bytes, hexadecimal."),
    Column("video_content_type", _TEXT, "Its media type, from its content."),
    Column("video_container", _TEXT, "Its container: mp4, mov, webm …"),
    Column("video_codec", _TEXT, "FFmpeg's name of its codec, such as `h264`."),
    Column("video_width", _SMALL, "Its width.", "pixels"),
    Column("video_height", _SMALL, "Its height.", "pixels"),
    Column("video_frames", _WHOLE, "Its number of frames.", "frames"),
    Column("video_frames_per_second", _SECONDS, "Its average frame rate.", "1/s"),
    Column("video_duration_seconds", _SECONDS, "Its duration.", "s"),
    Column("outputs", pa.list_(_FILE), "All its files, the first one included, as a list of records in their order.",
           always=True),
    Column("archiver", _TEXT, "Name and version of the program that archived it; known for requests without journal."),
    # version 2
    Column("error_type", _TEXT, "The class of the error that led to the outcome, as in `docs/errors.md`; null where "
           "there was none, or where an earlier version of this program recorded it."),
    Column("error_code", _TEXT, "The service's or the store's own code of that error; the HTTP status where it gave "
           "none."),
    Column("earlier_cost_usd", _USD, "What the service said that requests before the latest one cost, together. Not in "
           "`cost_usd`; null where it has said of none.", "US dollars"),
    Column("earlier_requests_with_cost", _SMALL, "How many of `requests_without_cost` are in `earlier_cost_usd`.",
           "requests"),
    Column("flow_run_url", _TEXT, "The page of the flow run, where the run knew it."),
    Column("video_poster_uri", _TEXT, "The first file's first frame, a small JPEG."),
    Column("digital_source_type", _TEXT, "IPTC's term for how the first file came about, as its provenance says it."),
    # version 3
    Column("verdict", _TEXT, "The worst verdict on its files: `good`, `not_judged`, `suspect` or `damaged`; null where "
           "an earlier version of this program archived them."),
    Column("verdict_reasons", pa.list_(_TEXT), "Why, one sentence each, of all its files."),
    Column("video_frames_decoded", _WHOLE, "How many frames of the first file were decoded.", "frames"),
    Column("video_frames_damaged", _WHOLE, "How many of its frames do not decode, or only in part.", "frames"),
    Column("video_black_seconds", _SECONDS, "How long it is black.", "s"),
    Column("video_frozen_seconds", _SECONDS, "How long nothing moves in it.", "s"),
    Column("video_blurred_seconds", _SECONDS, "How long it is blurred.", "s"),
    Column("video_silent_seconds", _SECONDS, "How long its sound is silent; null where it has none.", "s"),
    Column("video_loudness_lufs", _SECONDS, "Integrated loudness of its sound, EBU R 128.", "LUFS"),
    # version 4
    Column("file_verdicts", pa.list_(_TEXT), "The verdict on each of its files, in their order; null where an earlier "
           "version of this program made the row."),
    Column("video_contact_sheet_uri", _TEXT, "Nine frames of the first file with times, a JPEG, where it has one."),
    Column("file_reviews", pa.list_(_TEXT), "Of each of its files, in their order: `waiting` if it was set aside, and "
           "a person has to decide; `accepted` or `rejected` once one has; null if it was never set aside."),
)  # fmt: skip
"""Every column, in the order of the files. Hive-style readers add `day`, the partition, from the path."""

SCHEMA = pa.schema(
    [pa.field(column.name, column.type, metadata={"comment": column.about, "unit": column.unit}) for column in COLUMNS],
    metadata={VERSION_FIELD: str(SCHEMA_VERSION).encode()},
)
