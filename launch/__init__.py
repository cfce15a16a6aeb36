"""SLURM jobs for a run config. No torch, no GPU needed."""
