"""Fine-tunes an encoder on the texts of a classifier's config: the same ones, in the same order and batches.

One process, with all cores or one GPU: what is compared here is small. A killed run goes on from its state to the same
digits, on the CPU: a step's dropout is drawn from the seed and the step's number.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_prep.files import replacing, write_text
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.examples import EncodedTexts, Examples
from megatron_nlg.data.labelled import Texts
from megatron_nlg.parallel.device import select_device
from megatron_nlg.training.schedule import LearningRate
from megatron_nlg.training.scores import Scores, scores_of

STATE, METRICS = "state.pt", "metrics.jsonl"
Row = dict[str, Any]


def encode_texts(texts: Texts, tokenizer: Any, max_length: int) -> EncodedTexts:
    """Token ids, [CLS] and [SEP] included; of longer texts what is before [SEP] is cut."""
    every = [np.asarray(ids, np.int32) for ids in tokenizer(texts.texts, truncation=False, verbose=False)["input_ids"]]
    kept = [ids if len(ids) <= max_length else np.append(ids[: max_length - 1], ids[-1]) for ids in every]
    offsets = np.cumsum([0, *map(len, kept)]).astype(np.int64)
    truncated = sum(len(ids) > max_length for ids in every)
    return EncodedTexts(np.concatenate(kept), offsets, np.asarray(texts.classes, np.int64), truncated)


class EncoderTraining:
    """Of one encoder, in a folder that keeps its state and its metrics."""

    def __init__(
        self, config: RunConfig, model: Any, sets: tuple[EncodedTexts, EncodedTexts], padding: int, folder: Path
    ):
        settings = config.data.classification
        assert settings
        self.config, self.padding, self.folder = config, padding, folder
        self.device = select_device().torch
        self.model = model.to(self.device)
        train, valid = sets
        self.train_set = Examples(train, settings.max_length, padding, seed=config.seed)
        self.valid_set = Examples(valid, settings.max_length, padding)
        self.batch, self.length = config.batch.global_, settings.max_length
        self.total_steps = -(-settings.epochs * len(train) // self.batch)
        self.rate = LearningRate(config)
        self.optimizer = self._optimizer()
        self.step = 0
        self.rows: list[Row] = []

    def train(self, tell: Callable[[Row], None]) -> Row:
        """Train to the end, from the state that the folder has; returns the last validation's row.

        `tell` gets every row as it is written to metrics.jsonl.
        """
        self._resume()
        every = self.config.checkpoint.interval
        while self.step < self.total_steps:
            row = self._train_step()
            self.rows.append(row)
            tell(row)
            first, last = (at * self.batch // len(self.train_set) for at in (self.step - 1, self.step))
            done = self.step == self.total_steps
            if first != last or done:
                scores = {"split": "valid", "step": self.step, "source": "validation", **asdict(self.validate())}
                self.rows.append(scores)
                tell(scores)
            if first != last or done or (every and self.step % every == 0):
                self._save()
        return next(row for row in reversed(self.rows) if row.get("split") == "valid")

    @torch.inference_mode()
    def validate(self) -> Scores:
        """On all validation texts."""
        self.model.eval()
        classes = self.config.classes
        loss, confusion = 0.0, torch.zeros(classes * classes, dtype=torch.float64)
        for first in range(0, len(self.valid_set), self.batch):
            count = min(self.batch, len(self.valid_set) - first)
            inputs, right = self._inputs(self.valid_set, first, count)
            with self._autocast():
                logits = self.model(**inputs).logits.double()
            loss += float(functional.cross_entropy(logits, right, reduction="sum"))
            found = torch.bincount(right * classes + logits.argmax(dim=1), minlength=classes * classes)
            confusion += found.cpu()
        return scores_of(loss, confusion.view(classes, classes))

    # ---- a step --------------------------------------------------------------------------------------------------

    def _train_step(self) -> Row:
        """Accumulate the gradients of a global batch, clip, and update."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        self.model.train()
        samples, optimizer = self.step * self.batch, self.config.optimizer
        loss = torch.zeros((), device=self.device)
        for first in range(samples, samples + self.batch, self.config.batch.micro):
            inputs, right = self._inputs(self.train_set, first, self.config.batch.micro)
            with self._autocast():
                logits = self.model(**inputs).logits
            part = functional.cross_entropy(logits.float(), right, reduction="sum") / self.batch
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        limit = optimizer.clip_grad_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        rate = self.rate(samples * self.length)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        consumed = samples + self.batch
        return {
            "step": self.step,
            "samples": consumed,
            "tokens": consumed * self.length,
            "loss": float(loss),
            "grad_norm": float(norm),
            "lr": rate,
        }

    def _inputs(self, examples: Examples, first: int, count: int) -> tuple[dict[str, Tensor], Tensor]:
        """Of samples [first, first + count): tokens and mask, [count, longest], and classes, [count]."""
        numbers = [number for number in map(examples.number, range(first, first + count)) if number is not None]
        texts = examples.texts
        tokens = torch.full((len(numbers), examples.padded_length(first, count)), self.padding)
        mask = torch.zeros_like(tokens)
        for row, number in enumerate(numbers):
            begin, end = texts.offsets[number : number + 2].tolist()
            tokens[row, : end - begin] = torch.from_numpy(texts.ids[begin:end])
            mask[row, : end - begin] = 1
        right = torch.from_numpy(texts.classes[numbers])
        inputs = {"input_ids": tokens.to(self.device), "attention_mask": mask.to(self.device)}
        return inputs, right.to(self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW as runs have it: biases and norms do not decay."""
        settings = self.config.optimizer
        parts = list(self.model.parameters())
        groups = [
            {"params": [part for part in parts if part.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [part for part in parts if part.dim() <= 1], "weight_decay": 0.0},
        ]
        betas = (settings.beta1, settings.beta2)
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    # ---- state ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """The rows first: those of steps after the state are made again, and none before it is missing."""
        write_text(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in self.rows))
        state = {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        data = io.BytesIO()  # where a disk is full, torch.save itself says only at which position
        torch.save(state, data)
        with replacing(self.folder / STATE) as temporary:
            temporary.write_bytes(data.getbuffer())

    def _resume(self) -> None:
        """Go on from the folder's state, if it has one."""
        path = self.folder / STATE
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # of many kinds, by what is broken
            said = str(error).splitlines()[0]
            raise InputError(f"{path}: can't be read: {said}; remove it, and the run starts anew") from None
        self.step = int(state["step"])
        self.rows = list(_rows(self.folder / METRICS, self.step))


def _rows(path: Path, last: int) -> Iterator[Row]:
    """Rows up to a step. Raises InputError for a file that is not whole."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        yield from (row for row in rows if row["step"] <= last)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: can't be read: {error}; remove {path.parent} to train anew") from None
