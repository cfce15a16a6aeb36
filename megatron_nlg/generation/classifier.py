"""A trained classifier without its optimizer, and the classes' logits of texts by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.examples import Examples, encode
from megatron_nlg.data.labelled import Texts
from megatron_nlg.data.tokenizer import classifier_tokenizer
from megatron_nlg.generation.weights import load_weights
from megatron_nlg.model.classifier import Classifier, class_logits
from megatron_nlg.training.checkpoint.store import CLASSES


class TrainedClassifier:
    """Weights of a run's newest whole checkpoint, or of `step`'s, in the layout of `config`.

    Every method is collective: all ranks call it with the same arguments and get the same results.
    """

    def __init__(self, config: RunConfig, run_folder: Path, step: int | None = None):
        settings = config.data.classification
        if settings is None:
            raise InputError(f"{run_folder}: is no classifier (task: classification); train one, or use generate")
        self.config, self.settings = config, settings
        self.tokenizer = classifier_tokenizer(config, run_folder)
        labels = {"tokenizer": self.tokenizer.identity, CLASSES: list(settings.labels)}
        loaded = load_weights(config, run_folder, labels, step)
        self.context, self.chunks = loaded.context, cast(list[Classifier], loaded.chunks)
        self.progress, self.damaged = loaded.progress, loaded.damaged

    def logits(self, texts: Texts, batch_size: int = 32) -> Tensor:
        """[texts, classes], fp32, on the CPU; texts are cut to data.classification.max_length as in training."""
        return torch.stack(list(self.stream(texts, batch_size)))

    def stream(self, texts: Texts, batch_size: int = 32, first: int = 0) -> Iterator[Tensor]:
        """Likewise one text after the other, from `first` on: [classes] each, the same whichever is the first."""
        parallel = self.config.parallel
        encoded = encode(texts, self.tokenizer, self.settings)
        multiple = parallel.tensor if parallel.sequence else 1
        examples = Examples(encoded, self.settings.max_length, self.tokenizer.eod, multiple)
        at_once = parallel.pipeline if parallel.interleave > 1 else 1  # interleaved chunks need so many micro-batches
        count = batch_size * at_once
        for begin in range(first // count * count, len(examples), count):
            longest = examples.padded_length(begin, count)
            micro_batches = [
                {
                    key: torch.stack([sample[key][:longest] for sample in samples]).to(self.context.device.torch)
                    for key in ("tokens", "loss_mask")
                }
                for start in range(begin, begin + count, batch_size)
                for samples in [[examples[i] for i in range(start, start + batch_size)]]
            ]
            found = class_logits(self.chunks, self.context, micro_batches).cpu()
            yield from found[max(0, first - begin) : len(examples) - begin]
