import importlib
from typing import Any

import pytest

from data_prep.dedup.compiled import kernel
from megatron_nlg.config.errors import MegatronNlgError


def test_a_missing_kernel_is_one_line_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    kernel.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        MegatronNlgError, match=r"kernel .* is missing .*apt install g\+\+.*pip install -e \."
    ) as caught:
        kernel()
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert kernel().UNICODE_VERSION


def test_a_kernel_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel(), "SOURCES", "0" * 64)
    kernel.cache_clear()
    with pytest.raises(MegatronNlgError, match="was built from other sources than are here: run `pip install -e"):
        kernel()
    monkeypatch.undo()
    kernel.cache_clear()
    assert kernel().UNICODE_VERSION
