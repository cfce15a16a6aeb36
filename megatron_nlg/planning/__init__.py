"""What a run config costs, computed without running it. Pure Python, no torch."""
