"""From a request's inputs to files on disk: fetches the image, renders once per recipe, keeps what was rendered."""

from __future__ import annotations

import asyncio
import hashlib
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
from runcomfy.sandbox.fault_registry import plain_prompt
from runcomfy.sandbox.render import Recipe, frame_size, poster, render

__all__ = ["USUAL", "ImageRefused", "Renderer"]

USUAL = {"resolution": "480p", "num_frames": 81, "frames_per_second": 16, "aspect_ratio": "16:9", "seed": 0}
"""What a video is made with where the model has no such input."""

_MAX_IMAGE_BYTES = 50_000_000
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

    async def recipe(self, inputs: Mapping[str, Any], image_field: str) -> Recipe:
        """Fetch the image that the inputs name, if they do, and settle everything that the video depends on.

        Raises:
            ImageRefused: The image cannot be had.
        """
        asked: dict[str, Any] = {**USUAL, **inputs}
        side = None if self.tiny else int(asked["resolution"].removesuffix("p"))
        prompt, image = plain_prompt(inputs["prompt"]).encode(errors="replace").decode(), None
        if image_field in inputs:
            image, (width, height) = await self._fetch(inputs[image_field], image_field)
            ratio = width / height
        else:
            wide, high = asked["aspect_ratio"].split(":")
            ratio = int(wide) / int(high)
        return Recipe(
            prompt, asked["seed"], asked["num_frames"], asked["frames_per_second"], *frame_size(side, ratio), image
        )

    async def video(self, recipe: Recipe, number: int = 1) -> Path:
        """Return the rendered file; each further number is another video."""
        recipe = replace(recipe, seed=recipe.seed + number - 1)
        if recipe.name not in self._renderings:
            self._renderings[recipe.name] = asyncio.create_task(self._render(recipe))
        return await asyncio.shield(self._renderings[recipe.name])

    async def image(self, recipe: Recipe) -> Path:
        """Return the first frame as a PNG file."""
        video = await self.video(recipe)
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
        path = self.directory / f"{recipe.name}.mp4"
        await self._in_thread(render, recipe, path)
        return path

    async def _fetch(self, url: str, name: str) -> tuple[Path, tuple[int, int]]:
        self.on_fetch()
        try:
            timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                if answer.status != 200:
                    raise ImageRefused(f"Fetching {name} was answered with HTTP {answer.status}.")
                data = bytearray()
                async for chunk in answer.content.iter_chunked(1 << 20):
                    data += chunk
                    if len(data) > _MAX_IMAGE_BYTES:
                        raise ImageRefused(f"{name} names a file of more than 50 MB.")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ImageRefused(f"{name} could not be fetched ({type(error).__name__}).") from None
        return await self._in_thread(self._keep, bytes(data), name)

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
