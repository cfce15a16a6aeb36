"""Weights & Biases: the same run after every resume; offline, in the run folder, when no key is set."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow
from megatron_nlg.training.callbacks.metrics import replace_text

ID_FILE = "wandb_id"


class WandB(Callback):
    """Logs metrics over the step. Rank 0 only."""

    def __init__(self) -> None:
        self._run: Any = None

    def on_start(self, run: Run) -> None:
        """Open the run, or go on with the one whose id the run folder keeps."""
        if not run.is_main:
            return
        import wandb

        options = {
            "project": run.config.log.wandb_project,
            "name": run.folder.resolve().name,
            "id": run_id(run.folder),
            "resume": "allow",
            "dir": str(run.folder),
            "config": run.config.model_dump(mode="json", by_alias=True),
            "settings": wandb.Settings(console="off", silent=True),
        }
        # W&B's own WANDB_MODE stays in charge when it is set.
        offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False)
        try:
            self._run = wandb.init(mode="offline" if offline else None, **options)
        except wandb.Error as error:  # the service can't be reached: no reason not to train
            print(f"Weights & Biases goes offline (`wandb sync` sends it later): {error}", file=sys.stderr)
            self._run = wandb.init(mode="offline", **options)
        # Our own step is the x axis: W&B's counter would refuse the steps that are taken again after a resume.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Every number of the row as `train/NAME`."""
        if self._run:
            row = {f"train/{k}": v for k, v in asdict(metrics).items() if k != "step" and v is not None}
            self._call("log", {"step": metrics.step, **row})

    def on_validation(self, run: Run, rows: Sequence[ValidationRow]) -> None:
        """`valid/SOURCE/loss` and its perplexity, or accuracy and f1."""
        if self._run and rows:
            numbers = {f"valid/{row.source}/{name}": value for row in rows for name, value in row.measures.items()}
            self._call("log", {"step": rows[0].step, **numbers})

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Finish the run; W&B shows it as failed unless training is done or was told to leave."""
        if self._run:
            self._call("finish", exit_code=1 if status == "failed" else 0)
            self._run = None

    def _call(self, name: str, *args: Any, **options: Any) -> None:
        """A method of W&B's run. What it raises, such as a dead service process, ends the logging and not the run."""
        try:
            getattr(self._run, name)(*args, **options)
        except Exception as error:
            print(f"Weights & Biases has stopped: {type(error).__name__}: {error}", file=sys.stderr)
            self._run = None


def run_id(folder: Path) -> str:
    """The id that every process of this run uses, made by the first."""
    path = folder / ID_FILE
    if not path.exists():
        replace_text(path, secrets.token_hex(4) + "\n")
    return path.read_text(encoding="utf-8").strip()
