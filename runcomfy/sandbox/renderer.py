"""From a request's inputs to files on disk: fetches the image, renders once per recipe, keeps what was rendered."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from PIL import Image

from runcomfy.media.image_parts import image_format, image_parts
from runcomfy.models.media_fields import MediaKind
from runcomfy.sandbox.fault_registry import plain_prompt
from runcomfy.sandbox.models import Model
from runcomfy.sandbox.render import Recipe, frame_size, poster, render
from runcomfy.texts import prompt_of

__all__ = ["ImageRefused", "Renderer", "outputs_of", "seconds_of"]

_FRAMES, _FRAMES_PER_SECOND = 81, 16
_LINES = {"1k": 720, "2k": 1080, "4k": 2160}
_LARGEST_SIDE = 2160
_COUNT = re.compile(r"(num|max|number_of)_(images|outputs|videos)")
_MOST_SECONDS = 60.0
_FORMS = {
    "image": (("png", "png"), ("jpeg", "jpg"), ("jpg", "jpg"), ("webp", "webp")),
    "audio": (("mp3", "mp3"), ("wav", "wav"), ("flac", "flac"), ("ogg", "ogg"), ("opus", "ogg")),
}

_MAX_MEDIA_BYTES = 100_000_000
_FETCH_SECONDS = 30
_THREADS = 2  # more of them only fight for the interpreter: small videos took twice as long with six

_T = TypeVar("_T")


class ImageRefused(Exception):
    """The image could not be fetched or is none; the text goes into the failed result, and holds no URL."""


@dataclass
class Renderer:
    """Renders into `directory`; equal recipes are rendered once, also when they are asked for at the same time."""

    directory: Path
    tiny: bool
    on_fetch: Callable[[], None]
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "sandbox-render"))
    _renderings: dict[str, asyncio.Task[Path]] = field(default_factory=dict)

    async def recipe(self, inputs: Mapping[str, Any], model: Model) -> Recipe:
        """Fetch the media that the inputs name, and settle everything that the output depends on.

        Raises:
            ImageRefused: A medium cannot be had.
        """
        text = prompt_of(inputs) or model.entry["display_name"]
        prompt, image, ratio = plain_prompt(text).encode(errors="replace").decode(), None, _ratio(inputs)
        for name, medium in model.kind.media.items():
            value = inputs.get(name, [])
            for url in [value] if isinstance(value, str) else value:
                data = await self._fetch(url, name)
                if medium.kind is MediaKind.IMAGE:
                    image, (width, height) = await self._in_thread(self._keep, data, name)
                    ratio = width / height
        frames = inputs.get("num_frames", round(seconds_of(inputs) * _FRAMES_PER_SECOND) + 1)
        seed, rate = _number(inputs.get("seed"), 0), int(_number(inputs.get("frames_per_second"), _FRAMES_PER_SECOND))
        return Recipe(
            prompt, int(seed), int(frames), rate, *_frame_size(inputs, self.tiny, ratio), image,
            makes=model.makes, form=_form(inputs, model.makes),
        )  # fmt: skip

    async def output(self, recipe: Recipe, number: int = 1) -> Path:
        """Return the rendered file; each further number is another one."""
        recipe = replace(recipe, seed=recipe.seed + number - 1)
        if recipe.name not in self._renderings:
            self._renderings[recipe.name] = asyncio.create_task(self._render(recipe))
        return await asyncio.shield(self._renderings[recipe.name])

    async def poster(self, recipe: Recipe) -> Path:
        """Return the first frame of a video as a PNG file."""
        video = await self.output(recipe)
        path = video.with_suffix(".png")
        if not path.exists():
            path.write_bytes(await self._in_thread(poster, video))
        return path

    def stop(self) -> None:
        """Give up what has not begun to render, and wait for what has."""
        for task in self._renderings.values():
            task.cancel()
        self._threads.shutdown(cancel_futures=True)

    async def _in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _render(self, recipe: Recipe) -> Path:
        path = self.directory / f"{recipe.name}.{recipe.form}"
        await self._in_thread(render, recipe, path)
        return path

    async def _fetch(self, url: str, name: str) -> bytes:
        self.on_fetch()
        try:
            timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                if answer.status != 200:
                    raise ImageRefused(f"Fetching {name} was answered with HTTP {answer.status}.")
                data = bytearray()
                async for chunk in answer.content.iter_chunked(1 << 20):
                    data += chunk
                    if len(data) > _MAX_MEDIA_BYTES:
                        raise ImageRefused(f"{name} names a file of more than 100 MB.")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ImageRefused(f"{name} could not be fetched ({type(error).__name__}).") from None
        return bytes(data)

    def _keep(self, data: bytes, name: str) -> tuple[Path, tuple[int, int]]:
        with suppress(ValueError):  # the texts of a PNG may be larger than Pillow reads
            data = image_parts(data, "PNG").pixels if image_format(data) == "PNG" else data
        path = self.directory / f"{hashlib.sha256(data).hexdigest()}.picture"
        beside = path.with_suffix(f".{uuid.uuid4().hex}")  # another request may be reading the same image
        beside.write_bytes(data)
        beside.replace(path)
        try:
            with Image.open(path) as image:
                image.load()
                turned = image.getexif().get(0x0112, 1) >= 5  # the camera was held upright
                return path, image.size[::-1] if turned else image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            raise ImageRefused(f"{name} does not name an image that can be read.") from None


def seconds_of(inputs: Mapping[str, Any]) -> float:
    """Return how long a video or a sound is asked for, in seconds."""
    if "num_frames" in inputs:
        return float(inputs["num_frames"] / inputs.get("frames_per_second", _FRAMES_PER_SECOND))
    milliseconds = next((value for name, value in inputs.items() if name.endswith("_ms")), None)
    if milliseconds is not None:
        return min(_number(milliseconds, 5000) / 1000, _MOST_SECONDS)
    return min(_number(inputs.get("duration"), _FRAMES / _FRAMES_PER_SECOND), _MOST_SECONDS)


def outputs_of(inputs: Mapping[str, Any]) -> int:
    """Return how many files are asked for, nine at most."""
    asked = next((value for name, value in inputs.items() if _COUNT.fullmatch(name)), 1)
    return max(1, min(int(_number(asked, 1)), 9))


def _number(value: Any, otherwise: float) -> float:
    """Return a number, also of a text such as `5`; another one for `auto`."""
    try:
        return float(value) if not isinstance(value, bool) else otherwise
    except (TypeError, ValueError):
        return otherwise


def _ratio(inputs: Mapping[str, Any]) -> float:
    for value in inputs.values():
        if isinstance(value, str) and (found := re.fullmatch(r"([1-9]\d?):([1-9]\d?)", value)):
            return int(found[1]) / int(found[2])
    words = str(inputs.get("image_size", ""))
    if found := re.search(r"(\d+)_(\d+)$", words):
        long, short = sorted((int(found[1]), int(found[2])), reverse=True)
        return short / long if words.startswith("portrait") else long / short
    return 1.0 if words.startswith("square") else 16 / 9


def _frame_size(inputs: Mapping[str, Any], tiny: bool, ratio: float) -> tuple[int, int]:
    width, height = _number(inputs.get("width"), 0), _number(inputs.get("height"), 0)
    if width > 0 and height > 0 and not tiny:
        return 2 * round(min(width, 4096) / 2), 2 * round(min(height, 4096) / 2)
    asked = str(inputs.get("resolution", "480p")).lower()
    side = _LINES.get(asked) or (int(asked[:-1]) if re.fullmatch(r"\d{2,4}p", asked) else 480)
    return frame_size(None if tiny else min(side, _LARGEST_SIDE), ratio)


def _form(inputs: Mapping[str, Any], makes: str) -> str:
    """Return the file's extension, by what is asked for."""
    forms = _FORMS.get(makes)
    if forms is None:
        return "mp4"
    asked = str(inputs.get("output_format", "")).lower()
    return next((extension for word, extension in forms if word in asked), forms[0][1])
