"""The report: what is on the page, what is not, and that its HTML is valid."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pytest
from PIL import Image

from runcomfy.catalogue import SCHEMA
from runcomfy.catalogue.partitions import read_partition, write_partition
from runcomfy.catalogue.rows import row_of_entry
from runcomfy.errors import ConfigurationError, GenerationFailed, RequestRejected
from runcomfy.journal import EntryState
from runcomfy.report.links import MediaLinks, below, beside_the_page
from runcomfy.report.making import Report, make_report, write_report
from runcomfy.report.options import ReportSettings, Selection
from runcomfy.storage.store import Store
from runcomfy.values import Archive, Quality, Result, Review
from tests.runcomfy.catalogue.making import DAY, Archiving, entry_of, provenance_of, video_of
from tests.runcomfy.report.reading_html import Reader, read

HOSTILE = "</script></title><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


def made(archiving: Archiving, selection: Selection | None = None, **settings: Any) -> Report:
    return make_report(archiving.store, selection or Selection(), ReportSettings(**settings))


def page_of(archiving: Archiving, selection: Selection | None = None, **settings: Any) -> Reader:
    page = read(made(archiving, selection, **settings).html)
    assert page.troubles() == []
    return page


def text_of(page: Reader, tag: str = "main") -> str:
    return page.text_of(tag)


def poster(colour: str = "teal") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (640, 360), colour).save(sink, "JPEG")
    return sink.getvalue()


async def with_poster(archiving: Archiving, prompt: str, image: bytes, **how: Any) -> None:
    entry = await archiving.begin(prompt, **how)
    archived = await archiving.archive(entry)
    assert archived.archive is not None
    (video,) = archived.archive.videos
    key = f"{video.key}.jpg"
    archiving.store.put(key, image, content_type="image/jpeg")
    videos = (video.model_copy(update={"poster_key": key}),)
    found = await archiving.journal.read(entry.generation_key)
    assert found is not None
    named = found.entry.model_copy(update={"archive": archived.archive.model_copy(update={"videos": videos})})
    assert await archiving.journal.replace(found, named) is not None


async def some_of_every_kind(archiving: Archiving) -> None:
    for number in range(3):
        await with_poster(archiving, f"scene {number}", poster(), begun=DAY + timedelta(hours=number))
    await archiving.begin("under way")
    for state, error in (
        (EntryState.FAILED, GenerationFailed("it was told to")),
        (EntryState.REFUSED, RequestRejected("no", http_status=422)),
        (EntryState.EXPIRED, None),
        (EntryState.DETACHED, None),
        (EntryState.UNCERTAIN, None),
    ):
        entry = await archiving.begin(f"{state} one")
        await archiving.move(entry, state, reason=str(error or "so it is"), error=error)
    await archiving.update()


async def test_a_page_shows_what_was_made_what_it_cost_and_how_it_went(archiving: Archiving) -> None:
    """In numbers, with posters, plots, causes, and what waits for a person; and it is well made."""
    await some_of_every_kind(archiving)

    report = made(archiving, budget_usd=10, usd_per_video=0.5)

    page = read(report.html)
    assert page.troubles() == []
    assert report.sentence == "3 of 9 generations archived; 0.75 USD and 6 requests without cost"
    told = text_of(page)
    assert "Archived 3 of 9 generations" in told and "Spent 0.75 USD" in told
    assert "Success 42.9 % of those that have ended" in told
    assert "3.75 USD of a budget of 10.00 USD (the service has not said what 6 of the requests cost)" in told
    assert len(page.all("a", class_="play")) == len(page.all("img")) == 3
    assert [image.attributes["alt"] for image in page.all("img")] == [f"Play: scene {number}" for number in (2, 1, 0)]
    assert [plot.text for plot in page.all("h3") if "id" in plot.attributes] == [
        "Outcome over time", "Cost over time", "Time in the queue", "Time of running"
    ]  # fmt: skip
    assert "RequestRejected 422: 1 refused" in told and "1,204" not in told
    assert page.all("title")[0].text == "Generations of 21 November 2026"


async def test_what_a_person_erased_is_neither_a_success_nor_a_failure(archiving: Archiving) -> None:
    """It counts among the outcomes, and its cost stays."""
    await with_poster(archiving, "kept", poster(), begun=DAY)
    erased = await archiving.begin("erased")
    await archiving.move(erased, EntryState.REFUSED, reason="no")
    await archiving.move(erased, EntryState.ERASED, reason="erased by a person")
    await archiving.update()

    told = text_of(read(made(archiving).html))

    assert "Success 100 % of those that have ended" in told
    assert "1 archived, 1 erased" in told
    assert "erased" not in told.partition("Failures by cause")[2].partition("Every generation")[0]


async def test_texts_from_outside_are_shown_as_text_only(archiving: Archiving) -> None:
    """A prompt, a reason, an error's code or a name with markup in it changes nothing on the page."""
    await with_poster(archiving, HOSTILE, poster())
    failed = await archiving.begin(f"{HOSTILE} again")
    error = RequestRejected(HOSTILE, error_code=HOSTILE)
    await archiving.move(failed, EntryState.UNCERTAIN, reason=HOSTILE, error=error,
                         flow_run={"id": HOSTILE, "name": HOSTILE, "url": "javascript:alert(1)"})  # fmt: skip
    await archiving.update()

    page = page_of(archiving)

    assert page.all("title")[0].text.startswith("Generations of") and len(page.all("script")) == 1
    assert [image.attributes["src"][:23] for image in page.all("img")] == ["data:image/jpeg;base64,"]
    assert HOSTILE in page.all("main")[0].text
    assert not any("javascript:" in value for each in page.elements for value in each.attributes.values())


async def test_the_page_loads_nothing_and_says_so_to_the_browser(archiving: Archiving) -> None:
    """No address in it but those of links; its policy allows its own style and script, and media from the links."""
    await some_of_every_kind(archiving)

    page = page_of(archiving, media_base_url="https://cdn.example:8443/videos/")

    assert page.policy | {"style-src": "", "script-src": ""} == {
        "default-src": "'none'", "img-src": "data:", "media-src": "https://cdn.example:8443", "base-uri": "'none'",
        "form-action": "'none'", "style-src": "", "script-src": "",
    }  # fmt: skip
    assert "url(" not in page.all("style")[0].text and "@import" not in page.all("style")[0].text
    assert page.all("link")[0].attributes["href"] == "data:,"
    assert page.all("video") == []
    links = [link.attributes["href"] for link in page.all("a", class_="play")]
    assert all(link.startswith("https://cdn.example:8443/videos/wan-ai/") for link in links)


async def test_a_selection_is_of_days_models_outcomes_and_runs(archiving: Archiving) -> None:
    """Without any, it is the last day that there is."""
    for number in range(3):
        await archiving.archive(await archiving.begin(f"day {number}", begun=DAY - timedelta(days=number)))
    failed = await archiving.begin("failed", begun=DAY - timedelta(days=1))
    await archiving.move(failed, EntryState.FAILED, flow_run={"id": "f2", "name": "bold-owl", "deployment_id": "d1"})
    await archiving.update()
    yesterday = (DAY - timedelta(days=1)).date()

    found = {
        "last": Selection(),
        "all": Selection(since=yesterday - timedelta(days=9)),
        "a day": Selection(since=yesterday, until=yesterday),
        "two": Selection(since=yesterday),
        "nothing": Selection(since=yesterday - timedelta(days=99), until=yesterday - timedelta(days=98)),
        "not yet": Selection(since=yesterday + timedelta(days=99)),
        "model": Selection(since=yesterday, model="text-to-video"),
        "another": Selection(since=yesterday, model="image-to-video"),
        "failed": Selection(since=yesterday, outcome="failed"),
        "run": Selection(since=yesterday, flow_run="bold-owl"),
        "run id": Selection(since=yesterday, flow_run="f2"),
        "deployment": Selection(since=yesterday, deployment="d1"),
    }
    reports = {name: made(archiving, selection) for name, selection in found.items()}

    assert {name: report.figures.generations for name, report in reports.items()} == {
        "last": 1, "all": 4, "a day": 2, "two": 3, "nothing": 0, "not yet": 0, "model": 3, "another": 0,
        "failed": 1, "run": 1, "run id": 1, "deployment": 1,
    }  # fmt: skip
    assert reports["last"].name == f"{DAY.date()}.html"
    assert reports["run"].name == f"{yesterday}_{DAY.date()}-flow-run-bold-owl.html"
    assert all(read(report.html).troubles() == [] for report in reports.values())


def test_an_impossible_selection_is_refused() -> None:
    """Its last day before its first."""
    with pytest.raises(ValueError, match="after the last"):
        Selection(since=DAY.date(), until=DAY.date() - timedelta(days=1))


async def test_without_a_catalogue_the_error_says_what_makes_one(archiving: Archiving) -> None:
    """A report is never made from a listing of the archive."""
    archiving.put(provenance_of(archiving.store, "r1"))

    with pytest.raises(ConfigurationError, match="prefect-runcomfy catalogue"):
        made(archiving)


async def test_a_page_is_bounded_and_says_what_is_left_out(archiving: Archiving) -> None:
    """The newest are shown, and every number is of all."""
    for number in range(5):
        await with_poster(archiving, f"scene {number}", poster(), begun=DAY + timedelta(minutes=number))
    await archiving.update()

    page = page_of(archiving, videos=2, rows=3)

    told = text_of(page)
    assert "Archived 5 of 5 generations" in told
    assert [image.attributes["alt"] for image in page.all("img")] == ["Play: scene 4", "Play: scene 3"]
    assert "3 more in the catalogue" in told and "2 more in the catalogue" in told
    assert "scene 2" in told and "scene 1" not in told


async def test_a_day_of_five_thousand_gives_a_page_that_opens(archiving: Archiving) -> None:
    """Read are the day and the posters that are shown, each once; the page is of a size that any browser opens."""
    rows, store = [], archiving.store
    store.put(store.key("poster.jpg"), poster(), content_type="image/jpeg")
    for number in range(5000):
        entry = entry_of(f"scene {number}", begun=DAY + timedelta(seconds=number), store=store.uri(store.prefix))
        entry = entry.moved(EntryState.SUBMITTED, worker="w", request_id=f"r{number}", submitted_at=entry.created_at)
        if number % 10:
            result = Result(request_id=f"r{number}", output_count=1, noticed_at=DAY, queued_seconds=number % 50,
                            running_seconds=60 + number % 91, polls=3)  # fmt: skip
            videos = (video_of(store, f"r{number}").model_copy(update={"poster_key": store.key("poster.jpg")}),)
            archive = Archive(result=result, videos=videos)
            entry = entry.moved(EntryState.ARCHIVED, worker="w", archive=archive, cost_usd=0.25)
        else:
            entry = entry.moved(EntryState.FAILED, worker="w", error=GenerationFailed("no"))
        rows.append(row_of_entry(entry, prompts=True))
    day = DAY.date()
    write_partition(store, day, read_partition(store, day), pa.Table.from_pylist(rows, SCHEMA))
    calls: Counter[str] = Counter()
    store.client.meta.events.register(
        "before-send.s3", lambda request, **_: calls.update([request.url.rpartition("/")[2].partition("?")[0]])
    )

    began = time.process_time()
    report = made(archiving)
    seconds = time.process_time() - began

    assert calls == {"videos": 1, "generations.parquet": 1, "poster.jpg": 60}
    assert report.sentence == "4,500 of 5,000 generations archived; 1,125.00 USD and 500 requests without cost"
    assert len(report.html) < 1_500_000 and seconds < 100
    page = read(report.html)
    assert page.troubles() == [] and len(page.all("img")) == 60
    assert "4,440 more in the catalogue" in text_of(page) and "4,500 more in the catalogue" in text_of(page)


@pytest.mark.parametrize("image", [None, b"no image", b"\xff\xd8\xff\xe0 cut", b"x" * (3 * 1024 * 1024)])
async def test_a_poster_that_cannot_be_shown_is_left_out(archiving: Archiving, image: bytes | None) -> None:
    """The page without it is a page, and the video plays."""
    await with_poster(archiving, "rain", image or b"")
    if image is None:
        (key,) = {row["video_poster_uri"] for row in await updated(archiving)}
        archiving.store.delete(key.removeprefix("s3://videos/"))
    await archiving.update()

    page = page_of(archiving)

    assert page.all("img") == [] and len(page.all("a", class_="play")) == 1
    assert "no poster" in text_of(page)


async def updated(archiving: Archiving) -> list[dict[str, Any]]:
    await archiving.update()
    return archiving.rows()


async def test_a_poster_is_made_small(archiving: Archiving) -> None:
    """A gallery of sixty is to open on a phone."""
    noisy = io.BytesIO()
    Image.effect_noise((640, 360), 90).convert("RGB").save(noisy, "JPEG", quality=95)
    await with_poster(archiving, "noise", noisy.getvalue())
    await archiving.update()

    (image,) = page_of(archiving).all("img")

    assert len(noisy.getvalue()) > 100_000 > 60_000 > len(image.attributes["src"])


async def test_what_waits_for_a_person_comes_with_its_command(archiving: Archiving) -> None:
    """As it is typed: with the generation, the bucket, and the journal where that is elsewhere."""
    await some_of_every_kind(archiving)
    bucket = archiving.store.uri(archiving.store.prefix).rstrip("/")

    page = read(make_report(archiving.store, Selection(), ReportSettings(), journal="s3://other/journal dir").html)

    rows = {row["outcome"]: row for row in archiving.rows()}
    commands = [
        code.text
        for code in page.all("code")
        if code.text.startswith(("prefect-runcomfy journal", "prefect-runcomfy status", "prefect-runcomfy fetch"))
    ]
    where = f"--bucket {bucket} --journal 's3://other/journal dir'"
    expired = rows["expired"]
    key, request_id = rows["uncertain"]["generation_key"][:12], rows["uncertain"]["request_id"]
    assert commands == [
        f"prefect-runcomfy journal adopt {key} {request_id} {where}",
        f"prefect-runcomfy journal release {key} {where}",
        f"prefect-runcomfy journal adopt {expired['generation_key'][:12]} {expired['request_id']} {where}",
        f"prefect-runcomfy journal release {expired['generation_key'][:12]} {where}",
        f"prefect-runcomfy status {rows['detached']['request_id']}",
        f"prefect-runcomfy fetch {rows['detached']['request_id']} --model text-to-video {where}",
    ]


async def test_a_catalogue_without_prompts_gives_a_page_without_prompts(archiving: Archiving) -> None:
    """It says so, and names each video by its request."""
    await with_poster(archiving, "a secret place", poster())
    await archiving.update(prompts=False)

    page = page_of(archiving)

    assert "secret" not in page.all("html")[0].text
    assert "kept without prompts" in text_of(page)


async def test_links_to_flow_runs_are_recorded_by_the_run_or_derived(archiving: Archiving) -> None:
    """Never anything but a page of the web."""
    noted = await archiving.begin("noted")
    await archiving.move(
        noted, EntryState.FAILED, flow_run={"id": "f1", "name": "a", "url": "https://prefect.example/1"}
    )
    await archiving.move(await archiving.begin("told"), EntryState.FAILED, flow_run={"id": "f2", "name": "b"})
    await archiving.update()

    page = page_of(archiving, prefect_ui_url="https://ui.example/")

    runs = {link.text: link.attributes["href"] for link in page.all("a") if link.text in ("a", "b")}
    assert runs == {"a": "https://prefect.example/1", "b": "https://ui.example/runs/flow-run/f2"}


@pytest.mark.parametrize(
    ("key", "link"),
    [
        ("p/wan-ai/r1-0.mp4", "../wan-ai/r1-0.mp4"),
        ("p/a b/ä?#:.mp4", "../a%20b/%C3%A4%3F%23%3A.mp4"),
        ("elsewhere/x.mp4", "../../elsewhere/x.mp4"),
        ("p//x.mp4", None),
        ("../x.mp4", None),
    ],
)
def test_beside_the_page_links_are_relative(key: str, link: str | None) -> None:
    """So they lead to the file wherever the bucket is published; a key that no link can have has none."""
    store = Store("videos", "p", endpoint_url="http://127.0.0.1:9", region_name="us-east-1")

    links = beside_the_page(store, "p/reports/2026-11-21.html")

    assert (links.to(f"s3://videos/{key}"), links.to(f"s3://other/{key}")) == (link, None)


def test_below_a_base_url_the_prefix_is_that_of_the_store() -> None:
    """What is outside it is not published there."""
    links = published("https://cdn.example/v/")

    assert links.to("s3://videos/p/a b/x.mp4") == "https://cdn.example/v/a%20b/x.mp4"
    assert links.to("s3://videos/elsewhere/x.mp4") is None


def published(base_url: str) -> MediaLinks:
    return below(base_url, Store("videos", "p", endpoint_url="http://127.0.0.1:9", region_name="us-east-1"))


@pytest.mark.parametrize(
    "base_url",
    [
        "cdn.example",
        "ftp://x/",
        "javascript:alert(1)",
        "https://x/?token=1",
        "https://u:p@x/",
        "https://x; script-src *",
    ],
)
def test_a_base_url_that_is_invalid_or_may_hold_a_secret_is_refused(base_url: str) -> None:
    """It goes into the page, and into its policy."""
    with pytest.raises(ConfigurationError, match="base URL"):
        published(base_url)


async def test_a_page_is_in_the_bucket_and_the_latest_has_a_fixed_name(archiving: Archiving) -> None:
    """Both are the same page, with relative links that serve both."""
    await some_of_every_kind(archiving)
    report, store = made(archiving), archiving.store

    uri = write_report(store, report, latest=True)

    assert uri == store.uri(store.key(f"reports/{DAY.date()}.html"))
    for name in (f"{DAY.date()}.html", "latest.html"):
        assert store.read(store.key(f"reports/{name}"), limit_bytes=10**7) == report.html
        facts = store.head(store.key(f"reports/{name}"))
        assert facts and facts.content_type == "text/html; charset=utf-8"
    await archiving.update(everything=True)
    assert len(archiving.rows()) == 9


def test_without_the_extra_the_error_says_what_to_install() -> None:
    """And everything else of the engine runs without it."""
    program = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from runcomfy.report.making import make_report\n"
        "from runcomfy.errors import ConfigurationError\n"
        "try: make_report(None, None, None)\n"
        "except ConfigurationError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert 'needs vl_convert, which is not installed: run `pip install "prefect-runcomfy[report]"`' in done.stdout


async def test_a_page_with_nothing_on_it_says_so(archiving: Archiving) -> None:
    """An outcome that no generation has."""
    await archiving.archive(await archiving.begin())
    await archiving.update()

    told = text_of(page_of(archiving, Selection(outcome="failed")))

    assert "Archived 0 of 0 generations Success none yet" in told
    assert "There is nothing to draw." in told and "There is none." in told


async def test_verdicts_are_counted_by_setting_and_the_sheet_of_a_bad_file_is_open(archiving: Archiving) -> None:
    """A good file costs what all of them cost; what cannot be read as an image is left out."""
    kinds = (("good", poster()), ("suspect", poster("black")), ("damaged", b"no image"), ("suspect", poster()))
    decided = Review(decision="accepted", by="ana", at=DAY)
    for number, (verdict, sheet) in enumerate(kinds):
        entry = await archiving.archive(await archiving.begin(f"scene {number}", begun=DAY + timedelta(hours=number)))
        assert entry.archive is not None
        (video,) = entry.archive.videos
        archiving.store.put(f"{video.key}.sheet.jpg", sheet, content_type="image/jpeg")
        judged = {
            "quality": Quality(verdict=verdict, reasons=(f"It is {verdict}.",)),
            "contact_sheet_key": f"{video.key}.sheet.jpg",
            "warnings": (f"It is {verdict}.", "It is large."),
            "set_aside": verdict == "damaged",
            "review": decided if number == 3 else None,
        }
        found = await archiving.journal.read(entry.generation_key)
        assert found is not None
        archive = entry.archive.model_copy(update={"videos": (video.model_copy(update=judged),)})
        assert await archiving.journal.replace(found, found.entry.model_copy(update={"archive": archive}))
    await archiving.update()

    report = made(archiving)
    page = read(report.html)

    assert page.troubles() == []
    assert report.figures.quality.verdicts == {"good": 2, "suspect": 1, "damaged": 1, "not_judged": 0}
    told = text_of(page)
    assert "1 file was set aside, since it is suspect or damaged: prefect-runcomfy review list" in told
    assert "Cost of a good file 0.50 USD all that was paid, by the good ones" in told
    sheets = page.all("details", class_="sheet")
    assert ["open" in each.attributes for each in sheets] == [True, True, False]
    assert told.count("It is suspect.") == 2 and told.count("It is large.") == 4


async def test_a_rejected_file_that_was_deleted_is_shown_without_a_link(archiving: Archiving) -> None:
    """One that is still there keeps its link, and so does one that waits."""
    rejected = Review(decision="rejected", by="ana", at=DAY)
    kinds = (("deleted", rejected), ("kept", rejected), ("waiting", None))
    for number, (name, review) in enumerate(kinds):
        entry = await archiving.archive(await archiving.begin(name, begun=DAY + timedelta(hours=number)))
        assert entry.archive is not None
        (video,) = entry.archive.videos
        if name != "deleted":
            archiving.store.put(video.key, b"a video", content_type="video/mp4")
        found = await archiving.journal.read(entry.generation_key)
        assert found is not None
        videos = (video.model_copy(update={"set_aside": True, "review": review}),)
        archive = entry.archive.model_copy(update={"videos": videos})
        assert await archiving.journal.replace(found, found.entry.model_copy(update={"archive": archive}))
    await archiving.update()

    page = page_of(archiving)

    assert [link.attributes["data-title"] for link in page.all("a", class_="play")] == ["waiting", "kept"]
    assert text_of(page).count("rejected by a person") == 2
    assert text_of(page).count("rejected by a person; its file is gone") == 1


async def test_every_cell_of_a_table_names_its_column(archiving: Archiving) -> None:
    """A narrow screen shows a row as a list of its cells, without the head."""
    await some_of_every_kind(archiving)

    html = made(archiving).html.decode()

    tables = re.findall(r'<table class="stacks[^>]*>(.*?)</table>', html, re.DOTALL)
    assert len(tables) == 3
    for table in tables:
        head, _, body = table.partition("<tbody>")
        names = re.findall(r"<th[^>]*>([^<]*)</th>", head)
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
            assert re.findall(r'<td data-label="([^"]*)"', row) == names
            assert row.count("<td") == len(names)
