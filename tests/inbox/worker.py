"""A worker of the inbox, as a process that can be killed: `python -m tests.inbox.worker`, its job on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from flows.inbox import inbox
from runcomfy.inbox.run import InboxReport
from runcomfy.policy import Polling
from tests.crash.zygote import account_of, store_of


async def _work(job: dict[str, Any]) -> None:
    state: Any = await inbox(
        job["source"],
        account_of(job["account"]),
        store_of(job["store"]),
        job["queue_url"],
        at_once=job["at_once"],
        idle_seconds=job["idle_seconds"],
        hidden_seconds=15,
        polling=Polling(min_interval_seconds=0.5, default_interval_seconds=0.5),
        return_state=True,
    )
    report = await state.aresult(raise_on_failure=False)
    assert isinstance(report, InboxReport), report
    print(json.dumps({"state": state.name, "fates": Counter(str(one.fate) for one in report.received)}), flush=True)


if __name__ == "__main__":
    asyncio.run(_work(json.load(sys.stdin)))
