"""What is refused before a GPU is touched, and what is offered in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.planning.fit import Room, fullest, load_fitting, room_of
from megatron_nlg.planning.footprint import CPU, CUDA
from tests.tiny import tiny

MT_NLG = Path("configs/runs/mt_nlg_530b.yaml")
TOO_LARGE = ("parallel.tensor=4", "parallel.recompute=none")


@pytest.fixture(scope="module")
def room() -> Room:
    found = room_of(load_cluster(Path("configs/clusters/selene.yaml")), 8)
    assert found
    return found


def test_what_does_not_fit_is_refused_with_what_does(room: Room) -> None:
    with pytest.raises(ConfigError, match=r"stage 0 needs \d+\.\d GiB, and A100-SXM4-80GB of selene has 80.0") as error:
        load_fitting(MT_NLG, TOO_LARGE, 2240, room)
    offers = [line.split("fits: ")[1] for line in str(error.value).splitlines() if "fits: " in line]
    assert len(offers) == 3
    for offer in offers:
        config = load_fitting(MT_NLG, [*TOO_LARGE, *offer.split()], 2240, room)
        assert fullest(config, 2240, room)[1] <= 80


def test_the_config_can_overrule(room: Room) -> None:
    assert load_fitting(MT_NLG, [*TOO_LARGE, "parallel.check_memory=false"], 2240, room).parallel.tensor == 4
    assert load_fitting(MT_NLG, TOO_LARGE, 2240, None).parallel.tensor == 4, "unknown memory refuses nothing"


def test_all_problems_and_the_nearest_legal_layouts(room: Room) -> None:
    with pytest.raises(ConfigError) as error:
        load_fitting(MT_NLG, ["parallel.tensor=7", "parallel.interleave=3"], 2240, room)
    text = str(error.value)
    assert "4 problems" in text
    assert "fits: parallel.tensor=8 parallel.interleave=1\n" in text


def test_too_little_for_any_layout(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(tiny()))
    with pytest.raises(ConfigError, match=r"no layout of 2 ranks fits; .* needs 0\.[58] GiB"):
        load_fitting(tmp_path / "run.yaml", [], 2, Room(0.001, "a toy", CUDA))
    with pytest.raises(ConfigError, match=r"has 0\.0; choose"):
        load_fitting(tmp_path / "run.yaml", ["model.hidden_size=512"], 2, Room(0.01, "a toy", CPU))
    assert load_fitting(tmp_path / "run.yaml", [], 2, Room(0.01, "a toy", CPU))


def test_a_cpus_memory_is_shared_and_refuses_only_what_is_hopeless() -> None:
    room = room_of(load_cluster(Path("configs/clusters/cpu_laptop.yaml")), 4)
    assert room
    assert (room.gib, room.device) == (4, CPU)
