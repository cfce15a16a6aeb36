"""Sizes of a new encoder. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_nlg.config.errors import InputError


@dataclass(frozen=True)
class Shape:
    """A BERT that is made anew."""

    layers: int
    hidden_size: int
    heads: int
    vocabulary: int | None = None
    """Entries of a tokenizer that is learned from the texts; None for the classifier's own."""

    @classmethod
    def of(cls, text: str, vocabulary: int | None) -> Shape:
        """From LAYERS,HIDDEN,HEADS. Raises InputError."""
        try:
            layers, hidden_size, heads = map(int, text.split(","))
        except ValueError:
            raise InputError(f"--shape {text}: write LAYERS,HIDDEN,HEADS, as in 4,256,4") from None
        if min(layers, hidden_size, heads) < 1 or hidden_size % heads:
            raise InputError(f"--shape {text}: all above 0, and HEADS must divide HIDDEN")
        if vocabulary is not None and vocabulary < 300:
            raise InputError(f"--vocabulary {vocabulary}: take 300 or more")
        return cls(layers, hidden_size, heads, vocabulary)
