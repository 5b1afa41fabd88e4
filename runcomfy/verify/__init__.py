"""Check a bucket again: are the files those that were archived, and does the journal say the same?

`run` goes through the bucket and then through the journal, with constant memory. `listing` puts together what belongs
to one file, `one_file` checks it, and `one_entry` checks what an entry of the journal names, which `looking` reads.
`findings` is what is found.
"""

from __future__ import annotations

from runcomfy.verify.findings import Finding, Problem, Verification
from runcomfy.verify.run import verify

__all__ = ["Finding", "Problem", "Verification", "verify"]
