"""Deduplication: exact by content hash, fuzzy by MinHash, banding, verification and connected components."""
