"""The `report` flow and command: a page of what was made, in the bucket, in a file, or on this machine."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from blocks import MediaStore, RunComfyCredentials
from flows.catalogue import catalogue
from flows.report import report
from flows.text_to_video import text_to_video
from runcomfy.errors import ConfigurationError, GenerationFailed
from runcomfy.policy import Polling
from runcomfy.report.options import ReportSettings, Selection
from tests.runcomfy.cli.command_line import CommandLine
from tests.runcomfy.report.reading_html import Reader, read

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


def page_at(store: MediaStore, name: str) -> Reader:
    place = store.get_store()
    page = read(place.read(place.key(f"reports/{name}"), limit_bytes=10**7))
    assert page.troubles() == []
    return page


def get(url: str) -> httpx.Response:
    return httpx.get(url, follow_redirects=True)


async def test_the_catalogue_makes_the_page_of_what_is_new(
    account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """With the poster beside the video, and a link to the flow run; the run's page names it, unsigned."""
    await text_to_video("rain on a window", account, media_store, polling=QUICK)
    with pytest.raises(GenerationFailed):
        await text_to_video("storm [sandbox: result=failed]", account, media_store, polling=QUICK)

    as_in_prefect_yaml: Any = {"budget_usd": 5}
    found = await catalogue(media_store, report=as_in_prefect_yaml)

    day = found.days[0].day
    page, latest = page_at(media_store, f"{day}.html"), page_at(media_store, "latest.html")
    told = page.text_of("main")
    assert told == latest.text_of("main")
    assert "Archived 1 of 2 generations" in told and "GenerationFailed: 1 failed" in told
    assert [image.attributes["alt"] for image in page.all("img")] == ["Play: rain on a window"]
    (link,) = page.all("a", class_="play")
    assert link.attributes["href"].startswith("../wan-ai/")
    assert len([each for each in page.all("a") if "/runs/flow-run/" in each.attributes["href"]]) >= 2
    async with get_client() as client:
        shown = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["runcomfy-report"]))
        )
    uri = media_store.get_store().uri(media_store.get_store().key(f"reports/{day}.html"))
    (named,) = [str(each.data) for each in shown if uri in str(each.data)]
    assert "1 of 2 generations archived" in named and "Signature" not in named


async def test_no_page_is_made_if_nothing_is_new_or_it_is_off(
    account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The table is what counts."""
    await text_to_video("rain", account, media_store, polling=QUICK)
    await catalogue(media_store)
    await catalogue(media_store, report=ReportSettings())

    place = media_store.get_store()

    assert place.head(place.key("reports/latest.html")) is None


async def test_a_page_that_cannot_be_made_fails_no_catalogue(
    account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Its log says why."""
    await text_to_video("rain", account, media_store, polling=QUICK)

    found = await catalogue(media_store, report=ReportSettings(media_base_url="nowhere"))

    assert found.days[0].written


async def test_a_selection_has_a_page_of_its_own(account: RunComfyCredentials, media_store: MediaStore) -> None:
    """Beside those of the days; the flow says where."""
    await text_to_video("rain", account, media_store, polling=QUICK)
    found = await catalogue(media_store)

    uri = await report(media_store, Selection(outcome="archived"))

    day = found.days[0].day
    assert uri.endswith(f"/reports/{day}-outcome-archived.html")
    assert "outcome: archived" in page_at(media_store, f"{day}-outcome-archived.html").text_of("header")
    assert media_store.get_store().head(media_store.get_store().key("reports/latest.html")) is None


async def test_without_a_catalogue_the_flow_says_what_makes_one(media_store: MediaStore) -> None:
    """And fails."""
    with pytest.raises(ConfigurationError, match="prefect-runcomfy catalogue"):
        await report(media_store)


async def test_the_command_makes_the_same_without_prefect(
    account: RunComfyCredentials, media_store: MediaStore, command_line: CommandLine, tmp_path: Path
) -> None:
    """Into the bucket, or into a file; what is impossible is refused with what to do."""
    await text_to_video("rain", account, media_store, polling=QUICK)
    await catalogue(media_store)
    where, file = ("report", "--bucket", command_line.bucket), tmp_path / "page.html"

    told = json.loads(command_line.run(*where, "--json").stdout)
    command_line.run(*where, "--output", str(file), "--model", "text-to-video", "--videos", "0")

    assert told["made"] == "1 of 1 generations archived; 0.25 USD"
    assert told["page"].startswith(f"{command_line.bucket}/reports/")
    assert page_at(media_store, "latest.html").all("img")
    page = read(file.read_bytes())
    assert page.troubles() == [] and "1 are in the catalogue" in page.text_of("main")
    both = ("--output", "x", "--serve"), ("--day", "2026-11-21", "--since", "2026-11-20")
    assert all("Error" in command_line.run(*where, *options, code=3).stderr for options in both)
    order = command_line.run(*where, "--since", "2026-11-21", "--until", "2026-11-20", code=2).stderr
    assert "after the last one" in order
    assert "prefect" not in command_line.modules(*where)


async def test_the_command_serves_it_until_it_is_stopped(
    account: RunComfyCredentials, media_store: MediaStore, command_line: CommandLine
) -> None:
    """On this machine only, with videos that play; Ctrl-C ends it without an error."""
    await text_to_video("rain", account, media_store, polling=QUICK)
    await catalogue(media_store)

    with command_line.start("report", "--bucket", command_line.bucket, "--serve") as process:
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.split()[:1] == ["page"])
        (link,) = read(get(url).content).all("a", class_="play")
        video = get(url + link.attributes["href"])
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=300)

    assert url.startswith("http://127.0.0.1:")
    assert (video.status_code, video.content[4:8], code) == (200, b"ftyp", 0)
