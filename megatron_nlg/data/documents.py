"""Where documents begin and end inside packed samples, as the settings of the data section want it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from megatron_nlg.config.schema import Data


@dataclass(frozen=True)
class Boundaries:
    """What is made of end-of-document tokens. A token `eod` is the last of its own document."""

    eod: int
    attention: bool = False
    """Add `documents`: the number of each token's document in its sample."""
    positions: bool = False
    """Add `positions`, counted from the document's first token in the sample."""
    mask_loss: bool = False
    """Take the prediction of the next document's first token out of `loss_mask`."""

    @classmethod
    def of(cls, settings: Data, eod: int) -> Boundaries:
        """As the config says."""
        return cls(eod, settings.reset_attention, settings.reset_positions, settings.mask_eod_loss)

    def mark(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The micro-batch with what is asked for; every tensor [micro-batch, sequence], the added ones int64."""
        ends = batch["tokens"] == self.eod
        marked = dict(batch)
        if self.attention:
            marked["documents"] = document_numbers(ends)
        if self.positions:
            marked["positions"] = document_positions(ends)
        if self.mask_loss:
            marked["loss_mask"] = batch["loss_mask"].masked_fill(ends, 0.0)
        return marked


def document_numbers(ends: Tensor) -> Tensor:
    """Documents that have ended before each token; ends [batch, sequence] bool -> [batch, sequence] int64."""
    return ends.long().cumsum(dim=1) - ends.long()


def document_positions(ends: Tensor) -> Tensor:
    """Tokens since the document's first, in its sample; ends [batch, sequence] bool -> [batch, sequence] int64."""
    index = torch.arange(ends.shape[1], device=ends.device).expand_as(ends)
    begins = torch.zeros_like(ends)
    begins[:, 1:] = ends[:, :-1]
    return index - (index * begins).cummax(dim=1).values
