from __future__ import annotations

import io
import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.files import OutputFile
from runcomfy.sandbox.render import Recipe, frame_size, render

IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"


def facts(data: bytes) -> dict[str, Any]:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_image() for frame in container.decode(stream)]
        return {
            "codec": stream.codec_context.name,
            "pixels": stream.codec_context.pix_fmt,
            "size": (stream.width, stream.height),
            "rate": stream.average_rate,
            "frames": len(frames),
        }


def boxes(data: bytes) -> list[bytes]:
    names, at = [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    assert at == len(data)
    return names


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({"resolution": "480p", "num_frames": 85, "frames_per_second": 24}, (854, 480)),
        ({"resolution": "580p", "num_frames": 81, "frames_per_second": 5, "aspect_ratio": "9:16"}, (580, 1032)),
        ({}, (1280, 720)),
    ],
)
def test_text_becomes_the_video_that_was_ordered(
    calling: Callable[[Sandbox], Any], inputs: dict[str, Any], size: tuple[int, int]
) -> None:
    """A result is H.264 in an MP4 that starts fast, of the ordered size, length and frame rate."""
    with Sandbox(SandboxSettings(run_seconds=0)) as sandbox:
        caller = calling(sandbox)
        data = caller.plain.get(caller.finished("A bassist in a dim studio", **inputs)[1]["output"]["video"]).content

    expected = {
        "codec": "h264",
        "pixels": "yuv420p",
        "size": size,
        "rate": inputs.get("frames_per_second", 16),
        "frames": inputs.get("num_frames", 81),
    }
    assert expected == facts(data)
    names = boxes(data)
    assert names.index(b"moov") < names.index(b"mdat")


def test_image_becomes_a_video_of_its_own_aspect(calling: Callable[[Sandbox], Any], image_host: str) -> None:
    """Image-to-video fetches its image, and keeps the image's aspect with the ordered shorter side."""
    with Sandbox(SandboxSettings(run_seconds=0)) as sandbox:
        caller = calling(sandbox)
        url = f"{image_host}/picture.png?signature=good"
        _, result = caller.finished("x", IMAGE_TO_VIDEO, image_url=url, resolution="480p", num_frames=100)
        found = facts(caller.plain.get(result["output"]["video"]).content)

        assert (found["size"], found["frames"]) == ((768, 480), 100)
        assert sandbox.books().image_fetches == 1


def test_an_image_with_a_workflow_in_it_is_read(caller: Any, image_host: str) -> None:
    """ComfyUI's PNGs have larger texts than Pillow reads; they are as good as others."""
    _, result = caller.finished("x", IMAGE_TO_VIDEO, image_url=f"{image_host}/workflow.png?signature=good")

    assert result["status"] == "succeeded"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/picture.png?signature=expired", "HTTP 403"),
        ("/words.txt?signature=good", "image that can be read"),
        (None, "could not be fetched"),
    ],
)
def test_an_image_that_cannot_be_fetched_fails_the_request(
    caller: Any, image_host: str, path: str | None, why: str
) -> None:
    """A refused, unreadable or unreachable image ends as completed, then failed, with a reason and no signed URL."""
    url = image_host + path if path else "http://127.0.0.1:9/picture.png?signature=good"
    request_id, result = caller.finished("x", IMAGE_TO_VIDEO, image_url=url)

    assert (caller.status(request_id).json()["status"], result["status"]) == ("completed", "failed")
    assert why in result["error"]["message"]
    assert "signature" not in str(result)
    assert caller.sandbox.books().failed == 1


def test_the_same_inputs_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    """Rendering depends on its recipe alone; the seed changes it visibly."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        render(Recipe("words", seed, 81, 16, *frame_size(None, 16 / 9)), tmp_path / name)

    one, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("side", "ratio", "size"),
    [(480, 16 / 9, (854, 480)), (480, 9 / 16, (480, 854)), (720, 1, (720, 720)), (720, 99, (2160, 720)),
     (580, 0.001, (580, 1740)), (None, 16 / 9, (64, 36))],
)  # fmt: skip
def test_sizes_are_even_and_bounded(side: int | None, ratio: float, size: tuple[int, int]) -> None:
    """The shorter side is the ordered one; the longer follows the aspect, up to three to one."""
    assert size == frame_size(side, ratio)


def test_an_image_is_zoomed_slowly_and_without_jumps(tmp_path: Path) -> None:
    """Between one frame and the next an image changes a little, all the way."""
    picture = tmp_path / "one.picture"
    Image.radial_gradient("L").convert("RGB").resize((320, 180)).save(picture, "PNG")
    render(Recipe("x", 7, 81, 16, 320, 180, picture), tmp_path / "zoom.mp4")
    with av.open(str(tmp_path / "zoom.mp4")) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]

    steps = [ImageStat.Stat(ImageChops.difference(a, b)).mean[0] for a, b in itertools.pairwise(frames)]
    assert max(steps) < 3
    assert ImageStat.Stat(ImageChops.difference(frames[0], frames[-1])).mean[0] > 2


def test_equal_recipes_are_rendered_once(calling: Callable[[Sandbox], Any], tmp_path: Path) -> None:
    """Identical requests share one file on disk, also when they run at the same time."""
    with Sandbox(SandboxSettings(run_seconds=0, tiny_videos=True, slots=8, directory=tmp_path)) as sandbox:
        caller = calling(sandbox)
        for request_id in [caller.submitted("x") for _ in range(8)]:
            caller.ended(request_id)

    assert len(list(tmp_path.glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges_are_answered(caller: Any, asked: str, status: int, part: slice) -> None:
    """One byte range is answered with 206 and exactly those bytes; several are answered with the whole."""
    url = caller.video_url()
    whole = caller.plain.get(url).content

    answer = caller.plain.get(url, headers={"Range": asked})

    assert (status, whole[part]) == (answer.status_code, answer.content)


def test_if_range_with_another_etag_gets_the_whole_file(caller: Any) -> None:
    """A range of a changed file is not sent; HEAD returns the size without the bytes."""
    url = caller.video_url()
    head = caller.plain.head(url)
    ask = lambda etag: caller.plain.get(url, headers={"Range": "bytes=0-3", "If-Range": etag})  # noqa: E731

    assert [ask(etag).status_code for etag in (head.headers["ETag"], '"another"')] == [206, 200]
    assert (head.content, head.headers["Content-Type"]) == (b"", "video/mp4")
    assert len(caller.plain.get(url).content) == int(head.headers["Content-Length"])


def test_padded_video_is_as_large_as_ordered_and_still_a_video(caller: Any) -> None:
    """output_bytes pads with a `free` box: right length, right ranges, and it plays."""
    url = caller.video_url("x [sandbox: output_bytes=3000000]")
    answer = caller.plain.get(url)
    tail = caller.plain.get(url, headers={"Range": "bytes=-2999000"})

    assert 3_000_000 == len(answer.content) == int(answer.headers["Content-Length"])
    assert boxes(answer.content)[-1] == b"free"
    assert facts(answer.content)["frames"] == 81
    assert answer.content[-2_999_000:] == tail.content


async def test_padding_beyond_four_gigabytes_has_a_long_box(tmp_path: Path) -> None:
    """A box of more than 32 bits is written with a 64-bit size, and any part of it can be read."""
    (tmp_path / "a.mp4").write_bytes(b"0123")
    file = OutputFile.of(tmp_path / "a.mp4", 5_000_000_000)

    pieces = [
        [piece async for piece in file.read(start, end)]
        for start, end in ((2, 21), (5, 9), (4_999_999_998, 5_000_000_000))
    ]

    head = b"\x00\x00\x00\x01free" + (4_999_999_996).to_bytes(8)
    assert [b"23" + head + b"\0", head[1:5], b"\0\0"] == [b"".join(piece) for piece in pieces]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_resumes_a_download(caller: Any, tmp_path: Path) -> None:
    """A download that broke off is completed by `curl --continue-at -`."""
    url = caller.video_url("x [sandbox: output=truncated]")
    curl = ["curl", "-sS", "--noproxy", "*", "-o", str(tmp_path / "a.mp4"), "--continue-at", "-", url]

    first = subprocess.run(curl, capture_output=True, timeout=120)
    second = subprocess.run(curl, capture_output=True, timeout=120)

    assert (first.returncode, second.returncode) == (18, 0)
    assert caller.plain.get(url).content == (tmp_path / "a.mp4").read_bytes()
