"""What was set aside, and a person's decision about it: accepted, it comes to its usual place; rejected, it stays.

`waiting` finds what is below `quarantine/`, by the provenances there; `choosing` finds the one that a person names;
`deciding` accepts and rejects: the decision is one compare-and-swap of the provenance, and whatever follows from it can
be repeated.
"""

from __future__ import annotations

from runcomfy.review.choosing import choose
from runcomfy.review.deciding import accept, reject
from runcomfy.review.waiting import Item, set_aside

__all__ = ["Item", "accept", "choose", "reject", "set_aside"]
