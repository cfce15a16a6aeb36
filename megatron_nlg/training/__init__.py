"""Training: the engine (one step), the trainer (the loop), checkpoints, callbacks."""
