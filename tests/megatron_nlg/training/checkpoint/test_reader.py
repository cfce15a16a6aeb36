from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import metadata
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.checkpoint.format import candidates
from megatron_nlg.training.checkpoint.reader import METADATA, Source, Unpickler
from megatron_nlg.training.checkpoint.state import Piece
from tests.megatron_nlg.training.checkpoint.test_format import unpacked

EMBEDDING = "weight.embedding.word_embeddings.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return next(candidates(unpacked(2, tmp_path)))


def piece(key: str, whole: tuple[int, ...], tensor: torch.Tensor, *offsets: int) -> Piece:
    return Piece(key, torch.Size(whole), torch.Size(offsets), tensor.shape, tensor)


def test_torchs_own_tools_read_our_files(folder: Path, tmp_path: Path) -> None:
    dcp_to_torch_save(folder, tmp_path / "all.pt")
    state = torch.load(tmp_path / "all.pt", weights_only=True)
    source = Source(folder)
    for key in source.keys:
        ours = torch.full(source.shape(key), torch.nan)
        source.read([piece(key, tuple(ours.shape), ours, *[0] * ours.dim())])
        assert torch.equal(ours, state[key]), key


def test_any_box_into_any_precision(folder: Path) -> None:
    whole, box = torch.empty(32, 8), torch.empty(9, 3, dtype=torch.bfloat16)
    Source(folder).read([piece(EMBEDDING, (32, 8), whole, 0, 0), piece(EMBEDDING, (32, 8), box, 13, 2)])
    assert torch.equal(box, whole[13:22, 2:5].bfloat16())


@pytest.mark.parametrize(
    ("key", "shape", "says"), [("weight.none", (3,), "no weight.none"), (EMBEDDING, (64, 8), "32, 8")]
)
def test_what_is_not_there_is_named(folder: Path, key: str, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Source(folder).read([piece(key, shape, torch.empty(shape), *[0] * len(shape))])


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_metadata_can_run_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / METADATA).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="mkdir has no place in a checkpoint"):
        Source(folder)
    assert not Path("pwned").exists()


class ByGetattr:
    """Pickled as Python 3.11.0 to 3.11.3 pickle members of enumerations."""

    def __init__(self, *of: Any) -> None:
        self.of = of

    def __reduce__(self) -> Any:
        return getattr, self.of


def test_members_of_enumerations_as_older_pythons_pickle_them() -> None:
    formats = metadata._MEM_FORMAT_ENCODING
    for member in formats:
        assert Unpickler(io.BytesIO(pickle.dumps(ByGetattr(formats, member.name)))).load() is member


@pytest.mark.parametrize("of", [(metadata.Metadata, "__init__"), (metadata._MEM_FORMAT_ENCODING, 1)])
def test_getattr_gives_nothing_else(of: tuple[Any, Any]) -> None:
    with pytest.raises(pickle.UnpicklingError, match="has no place in a checkpoint"):
        Unpickler(io.BytesIO(pickle.dumps(ByGetattr(*of)))).load()
