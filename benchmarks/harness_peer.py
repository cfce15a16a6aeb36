"""lm-evaluation-harness's own model of transformers (HFLM), as the peer that we are compared with.

Its module imports `accelerate` for what it does with several processes. A model that it is handed ready-made never
comes there, so where accelerate is not installed, a stand-in without content lets the import pass.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


def hflm(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """HFLM of a model and tokenizer of transformers, on the model's device."""
    if importlib.util.find_spec("accelerate") is None and "accelerate" not in sys.modules:
        whole, utils = ModuleType("accelerate"), ModuleType("accelerate.utils")
        for name in ("Accelerator", "InitProcessGroupKwargs", "find_executable_batch_size"):
            setattr(whole, name, _absent)
        utils.get_max_memory = _absent  # type: ignore[attr-defined]
        whole.utils = utils  # type: ignore[attr-defined]
        sys.modules |= {"accelerate": whole, "accelerate.utils": utils}
        try:
            from lm_eval.models.huggingface import HFLM
        finally:
            del sys.modules["accelerate"], sys.modules["accelerate.utils"]
    else:
        from lm_eval.models.huggingface import HFLM
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))


def _absent(*_: Any, **__: Any) -> Any:
    raise ModuleNotFoundError("accelerate is not installed")
