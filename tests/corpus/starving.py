"""`python -m tests.corpus.starving KIND MEGABYTES FILE` reads a large manifest with little memory.

The file is made by another process: what it took to make it would be there to read it. It prints `read`, or `refused` where our error says so. Anything else that is raised ends the process with an error.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from runcomfy.errors import InvalidInput
from tests.runcomfy.manifest.making import NOT_ASKED, read_manifest, read_text

__all__ = ["KINDS", "ROWS"]

ROWS = 30_000
PROMPT = "A cat sits on a wall, and looks at the rain" * 4


def csv(rows: int) -> bytes:
    return ("prompt,seed\n" + "".join(f"{PROMPT} {row},{row}\n" for row in range(rows))).encode()


def jsonl(rows: int) -> bytes:
    return "".join(json.dumps({"prompt": f"{PROMPT} {row}", "seed": row}) + "\n" for row in range(rows)).encode()


def parquet(rows: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt": [f"{PROMPT} {row}" for row in range(rows)], "seed": list(range(rows))}), file)
    return file.getvalue()


def xlsx(rows: int) -> bytes:
    book, file = openpyxl.Workbook(write_only=True), io.BytesIO()
    sheet = book.create_sheet()
    sheet.append(["prompt", "seed"])
    for row in range(rows // 5):
        sheet.append([f"{PROMPT} {row}", row])
    book.save(file)
    return file.getvalue()


KINDS: dict[str, Callable[[int], bytes]] = {"csv": csv, "jsonl": jsonl, "parquet": parquet, "xlsx": xlsx}


def main(kind: str, megabytes: int, large: Path) -> None:
    """Read the file with so much memory more than its modules take."""
    read_text(large.parent, f"small.{kind}", KINDS[kind](10))  # imports everything
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 1_000_000, most))
    try:
        read_manifest(str(large), NOT_ASKED)
        said = "read"
    except InvalidInput as error:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        said = "refused" if "more memory than this process may use" in error.message else error.message
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print(said)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
