"""Heat maps of layers and the noise scale on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.report.layers import heat_maps
from megatron_nlg.report.page import page
from megatron_nlg.report.record import read_record
from tests.megatron_nlg.report.example import write_run


def rows(count: int) -> list[dict[str, Any]]:
    layer = {"grad_norm": 0.5, "weight_norm": 3.0, "activation_rms": 1.5}
    layers = {"embedding": {"grad_norm": 0.0, "weight_norm": 2.0}, "0": layer, "1": layer}
    return [{"step": 10 * i + 10, "layers": layers, "noise_scale": 12.5 + i or None} for i in range(count)]


def test_every_statistic_and_layer_is_named() -> None:
    picture = heat_maps(rows(30))
    for text in ("gradient norm", "weight norm", "RMS of the output", "embedding", ">300<"):
        assert text in picture
    assert heat_maps(rows(1)).startswith("<svg")


def test_the_page_has_them_where_they_were_recorded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert "Gradient noise" not in page(read_record(run))
    (run / "statistics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(9)))
    text = page(read_record(run))
    assert "Gradient noise and layers" in text
    assert 'aria-label="noise"' in text and 'aria-label="layers"' in text


@pytest.mark.parametrize("row", ['{"layers": {}}', '{"step": 1, "layers": [1]}', '{"step": 1, "layers": {"0": 3}}'])
def test_rows_that_are_not_understood(tmp_path: Path, row: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "statistics.jsonl").write_text(row + "\n")
    with pytest.raises(InputError, match=r"statistics\.jsonl:1: "):
        read_record(run)
