"""Probing for ranking: which layers know what a ranker needs, measured by minimum description length."""
