"""Checkpoints in one logical format, whatever the layout: global names, whole tensors, each rank writing what it owns.

A checkpoint is a folder `step_00000100` of torch.distributed.checkpoint files with, per parameter, its fp32 master
weight and Adam's two moments as boxes of the whole tensor. Beside them stand `progress.json` (where training is) and
`manifest.json` (size and SHA-256 of every file). It is written under a hidden name, synced and renamed, and `latest` is
moved last: what can be seen is complete.

format.py    names, manifest, verification, retention, migration of old formats; no torch
state.py     which ranges of which parameters a rank owns, and where in the whole tensors they lie
writer.py    boxes to files, hashed as they are written
reader.py    any box out of any checkpoint
publish.py   how a folder of tensors becomes a visible checkpoint
store.py     the checkpoints of a run: save in the background, load the newest whole one
command.py   `megatron-nlg checkpoint`
convert.py   `megatron-nlg convert`, by reshape.py and universal.py
"""
