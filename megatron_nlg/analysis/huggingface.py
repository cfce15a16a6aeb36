"""Activations of a model that transformers read from a folder: encoders such as BERT, and decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.files import file_sha256
from megatron_nlg.analysis.representations import (
    BATCH_TOKENS,
    Activation,
    Found,
    Head,
    Input,
    Linear,
    Pooling,
    Represented,
    batches,
    pool,
)
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.device import select_device

MEND = "name a folder that transformers' save_pretrained has written, model and tokenizer"

HEADS: dict[str, tuple[tuple[str, Activation], ...]] = {
    "bert": (("bert.pooler.dense", "tanh"), ("classifier", "none")),
    "distilbert": (("pre_classifier", "relu"), ("classifier", "none")),
    **dict.fromkeys(("roberta", "xlm-roberta"), (("classifier.dense", "tanh"), ("classifier.out_proj", "none"))),
    **dict.fromkeys(("gpt2", "llama"), (("score", "none"),)),
}
"""Layers of classifiers' heads, by the type of model."""


class HuggingFaceBlocks(Represented):
    """Blocks of transformers' AutoModel, in this process. Encoders sum a text up at their first token, [CLS]."""

    def __init__(self, folder: Path):
        try:
            from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
        except ImportError:
            raise InputError(f"{folder}: needs transformers: pip install 'megatron_nlg[analysis]'") from None
        try:
            # Code of the folder's own is never run, and nothing is asked of the network.
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
            architectures = AutoConfig.from_pretrained(folder, local_files_only=True).architectures or []
            classifier = any(name.endswith("ForSequenceClassification") for name in architectures)
            kind = AutoModelForSequenceClassification if classifier else AutoModel
            self.whole: Any = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except Exception as error:  # of many kinds, by library
            raise InputError(f"{folder}: can't be read: {str(error).splitlines()[0]}; {MEND}") from None
        config = self.whole.config
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{folder}: is an encoder and a decoder; name a model of one of them")
        self.device = select_device().torch
        self.model: Any = (self.whole.base_model if classifier else self.whole).to(self.device).eval()
        self._labels = tuple(config.id2label[i] for i in range(config.num_labels)) if classifier else ()
        self.layers, self.hidden_size = config.num_hidden_layers + 1, config.hidden_size
        self.max_length = min(self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", 1 << 20))
        parts = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        self.identity = {path.name: file_sha256(path) for path in parts}
        self.before, self.after = self._frame()
        # A decoder's first token, where it has a special one, knows nothing of what follows.
        encoder = self.before[:1] == [self.tokenizer.cls_token_id]
        self.summary: Pooling = "first" if encoder else "last"

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special ones."""
        return list(self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def head(self) -> Head | None:
        """As Represented; None also of a classifier of a type that HEADS does not know."""
        parts = HEADS.get(self.whole.config.model_type)
        if not self._labels or parts is None:
            return None
        return Head(tuple(_linear(self.whole.get_submodule(name), how) for name, how in parts), self._labels)

    @torch.inference_mode()
    def stream(self, inputs: Sequence[Input], batch_tokens: int | None = None) -> Iterator[Found]:
        """As Represented."""
        for each in batches(inputs, batch_tokens or BATCH_TOKENS[self.device.type]):
            batch = each.to(self.device)
            columns = torch.arange(batch.tokens.shape[1], device=self.device)
            mask = (columns < batch.lengths[:, None]).long()
            hidden = self.model(input_ids=batch.tokens, attention_mask=mask, output_hidden_states=True).hidden_states
            yield Found(batch.spans, torch.stack([pool(layer.transpose(0, 1), batch) for layer in hidden]).cpu())

    def _frame(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after a text."""
        inner = self.encode("a")
        whole = list(self.tokenizer("a")["input_ids"])
        begin = next(i for i in range(len(whole) + 1) if whole[i : i + len(inner)] == inner)
        return whole[:begin], whole[begin + len(inner) :]


def _linear(module: Any, activation: Activation) -> Linear:
    weight = module.weight.detach().float().cpu().numpy()
    bias = np.zeros(len(weight), np.float32) if module.bias is None else module.bias.detach().float().cpu().numpy()
    return Linear(weight, bias, activation)
