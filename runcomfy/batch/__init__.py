"""Many generations from one manifest: what they are, what they cost, and how far they are."""
