"""Text repair and length rules."""

from __future__ import annotations

from typing import Literal

from data_prep.recipe.kinds import Count, Positive, Strings
from megatron_nlg.config.base import Section


class Clean(Section):
    """What happens to a document's text, and which documents are too short (MT-NLG, section 3)."""

    sources: Strings | None = None
    """Names of the sources it is for; null for all."""
    ftfy: bool = True
    """Repair mojibake, HTML entities, control characters and look-alike forms with ftfy; NFC."""
    normalization: Literal["none", "NFC", "NFKC"] = "none"
    """Unicode form of the text, after ftfy (whose result is NFC). NFKC also replaces ligatures, superscripts and the
    like by their plain letters, for good."""
    whitespace: bool = True
    """Newlines become \\n, spaces at line ends go, three blank lines or more become two, the ends are stripped."""
    mask_email: str | None = None
    """What is put in place of e-mail addresses, such as `<EMAIL>`; null leaves them."""
    mask_ip: str | None = None
    """What is put in place of IP addresses (versions 4 and 6), such as `<IP>`; null leaves them."""
    min_characters: Count = 512
    """Shorter documents are dropped."""
    max_characters: Positive | None = None
    """Longer documents are dropped; no limit when not given."""
    boilerplate_words: Strings = ("javascript",)
    """Documents below boilerplate_min_characters that contain one of these, in any case, are dropped."""
    boilerplate_min_characters: Count = 256
    """See boilerplate_words."""
