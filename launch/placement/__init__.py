"""Where each rank of a run sits: the plan, its files, its table, its pictures. No torch, no GPU needed."""
