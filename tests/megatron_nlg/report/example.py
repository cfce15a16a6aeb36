"""A run folder as training leaves it: killed once, resumed, finished."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training.callbacks.base import ValidationRow
from megatron_nlg.training.callbacks.metrics import MetricsFile
from megatron_nlg.training.schedule import BatchSchedule, LearningRate
from tests.megatron_nlg.training.callbacks.example import metrics, run_in
from tests.tiny import tiny

OVERRIDES = (
    "schedule={train_tokens: 61440, warmup_tokens: 8192}",
    "batch.ramp={start: 8, increment: 4, tokens: 12000}",
    "checkpoint.interval=40",
)


def write_run(folder: Path, *overrides: str, layout: Layout | None = None) -> Path:
    """Steps to the end; killed after step 57 and resumed from the checkpoint of step 40."""
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny(*OVERRIDES, *overrides)
    layout = layout or Layout(pipeline=2, data=2, tensor=2)
    (folder / "config.yaml").write_text(to_yaml(config))
    batches, rate = BatchSchedule(config, 2), LearningRate(config)
    sizes, consumed = [], 0
    while not batches.is_over(consumed):
        sizes.append(batches.global_batch_size(consumed))
        consumed += sizes[-1]
    for start, end in ((0, 57), (40, len(sizes))):
        run = run_in(folder, config=config, start_step=start, total_steps=len(sizes), layout=layout)
        callback = MetricsFile()
        callback.on_start(run)
        for step in range(start + 1, end + 1):
            samples = sum(sizes[:step])
            loss = 2 + 3.6 * math.exp(-step / 45) + 0.08 * math.sin(step * 1.7) + 0.05 * math.cos(step * 5.3)
            callback.on_step(
                run,
                metrics(
                    step,
                    samples=samples,
                    tokens=samples * 32,
                    loss=loss,
                    grad_norm=0.4 + 2 * math.exp(-step / 12) + 0.05 * math.sin(step),
                    lr=rate(samples * 32),
                    batch_size=sizes[step - 1],
                    tokens_per_second=5200 + 300 * math.sin(step / 3) - 900 * (step == start + 1),
                ),
            )
            if step % 20 == 0:
                rows = [ValidationRow(step, s, loss + d, math.exp(loss + d)) for s, d in (("docs", 0.1), ("code", 0.4))]
                callback.on_validation(run, rows)
            if step % 40 == 0:
                path = folder / "checkpoints" / f"step_{step}"
                path.mkdir(parents=True, exist_ok=True)
                (path / "weights").write_bytes(bytes(123_456))
                callback.on_checkpoint(run, step, path)
        if start:
            callback.on_end(run, end, "done")
    return folder


def write_samples(folder: Path, *rows: dict[str, Any]) -> None:
    """samples.jsonl; two texts when none are given."""
    given = rows or (
        {
            "prompt": "The function returns",
            "text": "The function returns a list of <objects> & their names,\nor None when there are none.",
            "settings": {"mode": "greedy", "tokens": 24},
        },
        {"prompt": "import", "text": "import os, sys\n\ndef main():", "settings": {"top_p": 0.9, "seed": 3}},
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))


def tally(documents: int, size: int, **dropped: tuple[int, int]) -> dict[str, Any]:
    return {
        "documents_in": documents,
        "bytes_in": size,
        "documents_out": documents - sum(d for d, _ in dropped.values()),
        "bytes_out": size - sum(b for _, b in dropped.values()),
        "dropped": {reason: {"documents": d, "bytes": b} for reason, (d, b) in dropped.items()},
    }


def write_corpus_stats(folder: Path) -> str:
    """A stats.json and the path of the blend.yaml beside it."""
    stages = {
        "read": {
            "docs": tally(9000, 6_200_000, empty=(14, 0)),
            "code": tally(1200, 3_900_000, invalid_utf8=(3, 41_000)),
        },
        "clean": {
            "docs": tally(8986, 6_200_000, too_short=(3100, 420_000)),
            "code": tally(1197, 3_859_000, too_short=(41, 9_000), javascript=(2, 500)),
        },
        "dedup": {
            "docs": tally(5886, 5_780_000, exact_duplicate=(610, 700_000), near_duplicate=(320, 510_000)),
            "code": tally(1154, 3_849_500, near_duplicate=(61, 240_000)),
        },
    }
    tokens = {
        "docs": {"documents": 4956, "tokens": 1_120_000, "bytes": 2_240_000},
        "code": {"documents": 1093, "tokens": 910_000, "bytes": 1_820_000},
    }
    folder.mkdir(parents=True, exist_ok=True)
    tree = {"stages": {name: {"sources": sources} for name, sources in stages.items()}, "tokens": tokens}
    (folder / "stats.json").write_text(json.dumps(tree, sort_keys=True))  # as data_prep writes it
    return str(folder / "blend.yaml")
