"""`python -m tests.corpus.fuzz_images INPUTS [SEED]` gives mutations of the corpus to the reader of images.

It ends with an error at the first input that raises anything but `InvalidInput`, or takes more than ten seconds of
processor time; the input is then in the file that the error names.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time

from runcomfy.errors import InvalidInput
from runcomfy.media.images import inspect_image
from tests.corpus.images import CORPUS
from tests.corpus.mutations import cut, drop, flip, number, repeat, splice

__all__ = ["fuzz"]

_MOST_SECONDS = 10.0
_LARGEST = 40_000


_SEEDS = [sample.data for sample in CORPUS if 0 < len(sample.data) <= _LARGEST]
_IMAGES = [sample.data for sample in CORPUS if sample.content_type and len(sample.data) <= _LARGEST]
_MUTATIONS = (flip, flip, number, number, number, cut, drop, repeat, splice)


def _mutated(chance: random.Random) -> bytes:
    """Most of the inputs are images, and most changes near the start, where what they claim is."""
    data = bytearray(chance.choice(_IMAGES if chance.random() < 0.85 else _SEEDS))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        mutate = chance.choice(_MUTATIONS)
        if chance.random() < 0.6 and len(data) > 200:
            head = mutate(data[:200], chance, _SEEDS)
            data = head if mutate is cut else head + data[200:]
        else:
            data = mutate(data, chance, _SEEDS)
        if not data:
            return b""
    return bytes(data)


def fuzz(inputs: int, seed: int) -> str:
    """Return what was found, as JSON: how many were refused, the longest time in seconds, the most memory in MB."""
    chance, images, longest = random.Random(seed), 0, 0.0
    for _ in range(inputs):
        data, began = _mutated(chance), time.process_time()
        try:
            inspect_image(data)
            images += 1
        except InvalidInput as refused:
            assert refused.message and "\n" not in refused.message
        except BaseException:
            _keep(data)
            raise
        longest = max(longest, time.process_time() - began)
        if longest > _MOST_SECONDS:
            _keep(data)
            raise TimeoutError(f"{longest:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return json.dumps(
        {"kind": "image", "count": inputs, "refused": inputs - images, "longest_s": round(longest, 2), "peak_mb": peak}
    )


def _keep(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="image-", delete=False) as file:
        file.write(data)
    print(f"the input is in {file.name}", flush=True)


if __name__ == "__main__":
    print(fuzz(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
