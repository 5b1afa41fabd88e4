"""What shards tell of their rows is read by the run that started them, of whichever version each of them is."""

from __future__ import annotations

import json

from runcomfy.batch.results import outcomes_from_json, outcomes_to_json
from runcomfy.values import Outcome, OutcomeStatus

OUTCOME = Outcome(label="line 2", status=OutcomeStatus.ARCHIVED, uris=("s3://videos/a.mp4",), verdicts=("good",))


def test_outcomes_are_read_as_they_were_written() -> None:
    """By line."""
    assert outcomes_from_json(outcomes_to_json({2: OUTCOME})) == {2: OUTCOME}


def test_what_a_newer_worker_adds_is_left_out() -> None:
    """A field that this version does not know ends no batch."""
    newer = json.loads(outcomes_to_json({2: OUTCOME}))
    newer["attempt"] = 1
    newer["outcome"]["colour_space"] = "bt709"

    assert outcomes_from_json(json.dumps(newer).encode()) == {2: OUTCOME}


def test_what_an_older_worker_leaves_out_has_a_default() -> None:
    """Its verdicts, for example."""
    older = json.loads(outcomes_to_json({2: OUTCOME}))
    del older["outcome"]["verdicts"]

    assert outcomes_from_json(json.dumps(older).encode()) == {2: OUTCOME.model_copy(update={"verdicts": ()})}
