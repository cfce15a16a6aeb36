"""Are these nodes fit to train on? Looked at in the allocation, before the run: `megatron-nlg preflight`.

machine.py   what a node tells of itself: GPUs, their errors, disk
probe.py     what is measured: a GEMM's rate, the bandwidth between two ranks
pairs.py     who is measured against whom, N/2 pairs at a time, within leaves and across them
verdict.py   measurements -> good nodes, and bad ones with the reason
meeting.py   the ranks' conversation, through a store that survives ranks that do not answer
command.py   the command
"""
