"""Erase one generation everywhere that this project reaches, and say where it does not reach.

`erase` has the order of things, which makes it repeatable: a tombstone in the journal first, and its last words last.
`traces` is what a generation is recognised by, `files` finds its objects, `documents` takes it out of the files that
hold many (results, manifests, records of an inbox), and `rows` out of the catalogue.
"""

from __future__ import annotations

from runcomfy.erasure.erase import Erasure, ErasurePlan, carry_out, prepare

__all__ = ["Erasure", "ErasurePlan", "carry_out", "prepare"]
