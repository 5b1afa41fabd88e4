"""The journal of generations: one paid request and one archived video for each, whatever crashes in between.

`entry` says what is known of a generation and which states follow which, `spec` what is asked for and under which key
the journal has it, `accepted` what is known of its request, and that a person rejected what it made; `stores` and
`bucket` keep the entries, `journal` reads and writes them. `claim` decides who submits and what may be submitted again,
`submit` makes the paid call, and repeats it only while it was surely not accepted, `record` records how the waiting
ended, `resolve` is what a person decides, `reconcile` finds out how one ended that no run waits for, and `requests`
finds a generation by its request. `situation` and `advice` say what a person can do about it; `proof` shares what
worked recently.
"""

from __future__ import annotations

from runcomfy.journal.accepted import rejection_of, submission_of
from runcomfy.journal.bucket import BucketJournalStore, check_choice, names_folder, open_journal_store
from runcomfy.journal.claim import erased
from runcomfy.journal.entry import OPEN, RESTARTABLE, Entry, EntryState, Event
from runcomfy.journal.journal import Journal, Versioned
from runcomfy.journal.proof import StopNote, note_archived, note_stops, recent_proof
from runcomfy.journal.reconcile import DueIn, Finding, reconcile_entry, watched_entries
from runcomfy.journal.record import cancel_or_detach, record_archived, record_end, record_outcome, record_reviewed
from runcomfy.journal.requests import KnownRequest, find_request
from runcomfy.journal.resolve import adopt, release
from runcomfy.journal.spec import GenerationSpec, inputs_of, known_key, known_spec, same_service
from runcomfy.journal.stores import JournalStore, MemoryJournalStore, memory_journal_store
from runcomfy.journal.submit import submit_once

__all__ = [
    "OPEN",
    "RESTARTABLE",
    "BucketJournalStore",
    "DueIn",
    "Entry",
    "EntryState",
    "Event",
    "Finding",
    "GenerationSpec",
    "Journal",
    "JournalStore",
    "KnownRequest",
    "MemoryJournalStore",
    "StopNote",
    "Versioned",
    "adopt",
    "cancel_or_detach",
    "check_choice",
    "erased",
    "find_request",
    "inputs_of",
    "known_key",
    "known_spec",
    "memory_journal_store",
    "names_folder",
    "note_archived",
    "note_stops",
    "open_journal_store",
    "recent_proof",
    "reconcile_entry",
    "record_archived",
    "record_end",
    "record_outcome",
    "record_reviewed",
    "rejection_of",
    "release",
    "same_service",
    "submission_of",
    "submit_once",
    "watched_entries",
]
