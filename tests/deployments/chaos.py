"""The acceptance test of self-healing: orders arrive, everything is killed, and nobody intervenes.

    python -m tests.deployments.chaos --orders 200 --minutes 40 --scale 1 --generations 16 --keep chaos-out

It starts what `deployments/production/compose.yaml` starts (or, with `--database sqlite`, what the README types), a
service whose runs take 5 to 300 seconds, and an S3 server. Orders come in the first 70 per cent of the minutes, faults
in all of them. Then it waits until nothing is open any more, for at most `--settle-minutes`, and prints what became
of everything. Starting the process of a run takes about 3.5 seconds of CPU: allow ten orders a minute on two cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tests.deployments.chaos_faults import KINDS, Faults
from tests.deployments.chaos_orders import Orders, drawn
from tests.deployments.chaos_processes import Sampler
from tests.deployments.chaos_report import Report, reported
from tests.deployments.chaos_stage import Database, Stage, stage
from tests.deployments.chaos_verdict import judge
from tests.deployments.stack import ROOT, Stack

__all__ = ["Plan", "chaos", "main"]

_ORDERS_SHARE = 0.7
_TAIL_LINES = 40

Log = Callable[..., None]


@dataclass(frozen=True)
class Plan:
    """The settings of one chaos run.

    Args:
        orders: How many orders; every tenth is a manifest of five rows.
        database: `postgres` is the production set-up, `sqlite` that of the README.
        minutes: For how long faults strike.
        seed: What orders and faults are drawn from. How they coincide depends on the machine.
        scale: The factor of the 5 to 300 seconds of a request.
        faults: How many; by default one for each five orders, and at least one of each kind.
        kinds: Which kinds of faults.
        while_pending: Whether workers are also killed while runs are starting; these are noticed
            after five minutes, others after half of that.
        settle_minutes: How long after the last fault everything has to have ended.
        generations: How many generations the account allows at once.
        keep: A folder for the log of faults and orders, and the logs of all processes.
    """

    orders: int = 20
    database: Database = "postgres"
    minutes: float = 3.0
    seed: int = 1
    scale: float = 0.1
    faults: int | None = None
    kinds: tuple[str, ...] = KINDS
    while_pending: bool = True
    settle_minutes: float = 10.0
    generations: int = 8
    keep: Path | None = None


def chaos(plan: Plan) -> Report:
    """Run everything, and return what is wrong and what to print."""
    folder = plan.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as parts:
        if plan.keep is None:
            parts.callback(shutil.rmtree, folder, ignore_errors=True)
        log = _logging(folder / "chaos.jsonl")
        log("plan", **{name: str(value) for name, value in vars(plan).items()})
        made = parts.enter_context(stage(plan.database, plan.generations, plan.seed))
        parts.callback(_keep_logs, made.stack, folder)
        log("started", api=made.stack.api_url, home=str(made.stack.home))
        report = _storm(plan, made, log)
        if report.wrong:
            report = Report(report.wrong, report.text + _tails(made.stack))
        (folder / "report.txt").write_text(report.text, encoding="utf-8")
        return report


def _storm(plan: Plan, made: Stage, log: Log) -> Report:
    seconds = plan.minutes * 60
    placing = Orders(made.api, drawn(plan.orders, seconds * _ORDERS_SHARE, plan.scale, plan.seed), made.upload, log)
    with Sampler(made.stack.api_url) as sampler, placing as orders:
        draws = random.Random(f"{plan.seed}:faults")
        faults = Faults(
            made.stack, made.api, orders, made.sandbox, sampler, draws, log, while_pending=plan.while_pending
        )  # fmt: skip
        deck = faults.deck(max(plan.orders // 5, len(plan.kinds)) if plan.faults is None else plan.faults, plan.kinds)
        orders.may_come = lambda share: len(faults.done) + 1.5 >= share * len(deck)
        began = time.monotonic()
        for number, kind in enumerate(deck):
            due = began + seconds * (number + faults.draws.uniform(0.3, 1)) / len(deck)
            time.sleep(max(0.0, due - time.monotonic()))
            faults.strike(kind)
        while not orders.done():
            time.sleep(1)
        log("last fault")
        ended = time.monotonic()
        deadline = ended + plan.settle_minutes * 60
        while (verdict := judge(made.api, orders, made.sandbox, made.store, decode=False)).wrong:
            log("open", count=len(verdict.wrong), first=verdict.wrong[:3])
            if time.monotonic() > deadline:
                break
            time.sleep(10)
        settled = (
            f"looked at {time.monotonic() - ended:.0f} s after the last fault, {ended - began:.0f} s after the first"
        )
        log("settled", after=settled)
        verdict = judge(made.api, orders, made.sandbox, made.store, decode=True)
        title = f"{len(made.sandbox.books().requests)} requests; {settled}"
        return reported(made.api, verdict, orders.all, faults.done, sampler, title, log)


def _logging(file: Path) -> Log:
    def log(what: str, **facts: Any) -> None:
        line = json.dumps({"at": datetime.now(UTC).isoformat(), "what": what, **facts}, default=str)
        with file.open("a", encoding="utf-8") as out:
            out.write(f"{line}\n")
        if what != "run":
            print(line[:300], file=sys.stderr, flush=True)

    return log


def _keep_logs(stack: Stack, folder: Path) -> None:
    for log in stack.home.glob("*.log"):
        shutil.copy(log, folder / log.name)


def _tails(stack: Stack) -> str:
    """Return the last lines of every process."""
    found = []
    for log in sorted(stack.home.glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        found.append(f"\n--- the end of {log.name}\n" + "\n".join(line[:300] for line in lines) + "\n")
    return "".join(found)


app = App(name="python -m tests.deployments.chaos", help=__doc__, version_flags=())


@app.default
def run(plan: Annotated[Plan, Parameter(name="*")] = Plan(), *, healthy_minutes: float | None = None) -> int:
    """Run it, print the report, and return 1 if something is wrong.

    Args:
        plan: The settings of one chaos run.
        healthy_minutes: Instead, check that a run of so many minutes at Prefect's default heartbeat stays Running, and
            how long it takes until a dead one is found.
    """
    if healthy_minutes is not None:
        from tests.deployments.chaos_healthy import healthy

        report = healthy(plan.database, healthy_minutes)
    else:
        report = chaos(plan)
    print(report.text)
    return 1 if report.wrong else 0


def main() -> int:
    """Run the command line."""
    # A shell starts a command with `&` ignoring Ctrl-C, and workers that inherit this do not end at SIGTERM either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything that was started is ended
    os.chdir(ROOT)
    return int(app(result_action="return_value") or 0)


if __name__ == "__main__":
    sys.exit(main())
