"""The report on this machine: its server leads to the files of the page, by links that it signs at each click."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from runcomfy.errors import ConfigurationError
from runcomfy.report.making import make_report
from runcomfy.report.options import ReportSettings, Selection
from runcomfy.report.serving import ReportServer
from runcomfy.storage.store import Store
from tests.runcomfy.catalogue.making import Archiving
from tests.runcomfy.report.reading_html import read
from tests.runcomfy.storage.test_signed_urls import Imitation, serving, signed_region, store_at


@contextmanager
def shown(store: Store) -> Iterator[tuple[str, bytes]]:
    """Serve the report of a store; the body gets its address and the page."""
    with ReportServer(store) as server:
        html = make_report(store, Selection(), ReportSettings(), links=server.links).html
        thread = threading.Thread(target=server.serve, args=(html,))
        thread.start()
        try:
            yield server.url, html
        finally:
            server.close()
            thread.join()


def get(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    return httpx.request(method, url, headers=headers)


def test_links_are_signed_for_the_region_that_the_bucket_names() -> None:
    """A browser does not follow a signature to another region."""
    with serving(Imitation()) as bucket, ReportServer(store := store_at(bucket.url)) as server:
        assert server.links

    assert signed_region(store) == "eu-west-1"


async def made(archiving: Archiving) -> str:
    entry = await archiving.archive(await archiving.begin())
    assert entry.archive is not None
    (video,) = entry.archive.videos
    archiving.store.put(video.key, b"a video", content_type="video/mp4")
    await archiving.update()
    return video.key


async def test_a_click_leads_to_the_file_by_a_link_that_was_signed_for_it(archiving: Archiving) -> None:
    """The page has no signature in it; each click gets one of its own, from where the policy allows."""
    await made(archiving)

    with shown(archiving.store) as (url, html):
        page = read(get(url).content)
        (link,) = page.all("a", class_="play")
        answer = get(url + link.attributes["href"])
        video = get(answer.headers["Location"], Range="bytes=2-")

    assert page.troubles() == [] and b"Signature" not in html
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
    assert (video.status_code, video.content) == (206, b"video")
    signed = urlsplit(answer.headers["Location"])
    assert page.policy["media-src"] == f"'self' {signed.scheme}://{signed.netloc}"


async def test_it_serves_only_links_of_its_page(archiving: Archiving) -> None:
    """And only callers that know its secret."""
    key = await made(archiving)
    other = archiving.store.key("secret.mp4")
    archiving.store.put(other, b"another", content_type="video/mp4")

    with shown(archiving.store) as (url, _):
        base = url.removesuffix(urlsplit(url).path)
        answers = {
            path: get(path).status_code
            for path in (f"{url}media/{other}", f"{url}media/", f"{url}{key}", f"{base}/", f"{base}/media/{key}",
                         f"{base}/x/media/{key}", f"{base}/%C3%A4/media/{key}")
        }  # fmt: skip
        head = get(url, "HEAD")

    assert set(answers.values()) == {404}
    assert head.status_code == 200 and head.content == b"" and int(head.headers["Content-Length"]) > 1000


async def test_if_nothing_can_be_signed_it_says_so_at_once(archiving: Archiving) -> None:
    """And not at the first click."""
    store = Store("videos")  # on AWS, in a region that is not set

    with ReportServer(store) as server, pytest.raises(ConfigurationError, match="region"):
        _ = server.links
