"""Texts that the tests of tokenizers share."""

from typing import Any

import pyarrow as pa

from data_prep.tokenizer import EOD
from tests.data_prep.material import sentence

TEXTS = [sentence(seed) + f"\n\n  {EOD} naïve café\n" for seed in range(20)]


def arrow(texts: list[str]) -> Any:
    """As shards hold them."""
    return pa.array(texts, pa.large_string())
