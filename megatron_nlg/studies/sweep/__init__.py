"""`megatron-nlg sweep`: a grid of short runs, and which of them stay stable."""
