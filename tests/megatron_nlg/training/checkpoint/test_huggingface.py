"""GPT-2 models of transformers, imported, exported, and the same in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from data_prep.tokenizer import BytePairTokenizer
from megatron_nlg.cli import main
from megatron_nlg.config.base import build, parse_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Checkpoint, RunConfig
from megatron_nlg.config.validate import load_config
from megatron_nlg.model.forward import logits
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.checkpoint.format import model_identity
from megatron_nlg.training.checkpoint.huggingface import export_folder, import_folder
from megatron_nlg.training.checkpoint.store import Checkpoints
from tests.tiny import tiny
from tests.world import World

SHAPES: dict[str, dict[str, Any]] = {
    "tall": {"vocab_size": 301, "n_positions": 32, "n_embd": 32, "n_layer": 4, "n_head": 4},
    "wide": {"vocab_size": 130, "n_positions": 24, "n_embd": 96, "n_layer": 2, "n_head": 6, "n_inner": 64},
    "exact gelu": {
        "vocab_size": 257,
        "n_positions": 16,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 2,
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-3,
    },
}
TOLERANCE = 1e-4
"""Of logits in fp32, of the order of 1: the limit that the project has set itself. Sums are in another order."""


def random_model(shape: str, folder: Path) -> GPT2LMHeadModel:
    """Saved as transformers save; no parameter is what it is initialised to, biases and norms included."""
    config = GPT2Config(**SHAPES[shape], bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data.copy_(noise + (1 if "ln_" in name and name.endswith("weight") else 0))
    model.save_pretrained(folder)
    return model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random_model("tall", tmp_path / "source")
    return tmp_path / "source"


def logits_of(run: Path, overrides: list[str], tokens: torch.Tensor) -> torch.Tensor:
    config = load_config(run / "config.yaml", overrides)
    context = ParallelContext.create(config)
    seed_step(config.seed, 0, context.at, context.device)
    chunks = build_chunks(config, context, choose(context.device, config.parallel))
    checkpoints = Checkpoints(run / "checkpoints", Checkpoint(), context)
    checkpoints.load_weights(chunks, model_identity(config))
    checkpoints.close()
    for chunk in chunks:
        chunk.eval()
    return logits(chunks, context, tokens)[..., : config.model.vocab_size]


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape: str, world: World, tmp_path: Path) -> None:
    theirs = random_model(shape, tmp_path / "source")
    import_folder(tmp_path / "source", tmp_path / "run")
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(theirs.config.vocab_size, (2, theirs.config.n_positions), generator=generator)
    with torch.no_grad():
        expected = theirs(tokens).logits
    for ranks, overrides in ((1, []), (2, ["parallel.tensor=2"]), (2, ["parallel.pipeline=2"])):
        for found in world.run(ranks, logits_of, tmp_path / "run", overrides, tokens):
            assert (found - expected).abs().max() < TOLERANCE, overrides


@pytest.mark.parametrize("shard_bytes", [1 << 40, 20_000])
def test_there_and_back_every_bit_is_the_same(source: Path, tmp_path: Path, shard_bytes: int) -> None:
    import_folder(source, tmp_path / "run")
    back = export_folder(tmp_path / "run", tmp_path / "back", shard_bytes)
    theirs, ours = (GPT2LMHeadModel.from_pretrained(folder).state_dict() for folder in (source, back))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    files = list(back.glob("*.safetensors"))
    assert (len(files) == 1) == (shard_bytes > 1 << 30)
    for key in ("activation_function", "layer_norm_epsilon", "n_embd", "n_head", "n_layer", "n_positions"):
        assert (
            json.loads((back / "config.json").read_text())[key] == json.loads((source / "config.json").read_text())[key]
        )


def test_torchs_own_files_and_names_without_a_prefix(source: Path, tmp_path: Path) -> None:
    """As OpenAI's first uploads have them, with the masks that they keep."""
    state = {
        name.removeprefix("transformer."): tensor for name, tensor in load_file(source / "model.safetensors").items()
    }
    state["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(source / "config.json", old)
    torch.save(state, old / "pytorch_model.bin")
    made = [import_folder(folder, tmp_path / f"{folder.name}-run") for folder in (source, old)]
    one, other = (json.loads((folder / "manifest.json").read_text())["files"] for folder in made)
    assert {n: f["sha256"] for n, f in one.items() if n.endswith("distcp")} == {
        n: f["sha256"] for n, f in other.items() if n.endswith("distcp")
    }


def test_the_tokenizer_comes_along(source: Path, tmp_path: Path) -> None:
    texts = ["the old man and the sea", "fishing in the old harbour", "the sea, the sea"] * 5
    tokenizer = BytePairTokenizer.train(texts, 290)
    (source / "tokenizer.json").write_text(tokenizer.content)
    assert main(["convert", "from-hf", str(source), str(tmp_path / "run")]) == 0
    assert main(["convert", "to-hf", str(tmp_path / "run"), str(tmp_path / "back")]) == 0
    theirs = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert theirs("the old sea")["input_ids"] == tokenizer.encode("the old sea")
    assert theirs.eos_token_id == tokenizer.eod
    assert json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"] == tokenizer.eod


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    state = load_file(folder / "model.safetensors") | changes
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, r"model_type: 'llama' is not supported; gpt2 is"),
        ({"activation_function": "relu"}, r"activation_function: 'relu' is not supported"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True is not supported"),
        ({"n_layer": "4"}, "n_layer: a whole number is expected, not '4'"),
        ({"attn_pdrop": 0.3}, "resid_pdrop: differs from attn_pdrop"),
        ({"n_embd": 64}, r"wte.weight is \[301, 32\], and config.json asks for \[301, 64\].*; and \d+ more"),
        ({"n_layer": 5}, "h.4.ln_1.weight is missing"),
        ({"n_layer": 3}, "h.3.ln_1.bias is not GPT-2's"),
    ],
)
def test_another_model_is_refused_by_key_or_tensor(source: Path, tmp_path: Path, values: Any, message: str) -> None:
    change(source, **values)
    with pytest.raises(InputError, match=message):
        import_folder(source, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert not list((tmp_path / "run").rglob("step_*"))


def test_damaged_and_missing_files(source: Path, tmp_path: Path) -> None:
    change_weights(source, {"transformer.h.1.mlp.c_fc.weight": torch.zeros(32, 100)})
    with pytest.raises(InputError, match=r"h\.1\.mlp\.c_fc\.weight is \[32, 100\], and .* for \[32, 128\]"):
        import_folder(source, tmp_path / "run")
    (source / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors: can't be read"):
        import_folder(source, tmp_path / "run")
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors and no pytorch_model\.bin"):
        import_folder(source, tmp_path / "run")
    (source / "model.safetensors.index.json").write_text(
        '{"weight_map": {"transformer.wte.weight": "model-1.safetensors"}}'
    )
    with pytest.raises(InputError, match=r"model-1\.safetensors: no such file, and the index names it"):
        import_folder(source, tmp_path / "run")


class Runs:
    def __reduce__(self) -> Any:
        return Path.mkdir, (Path("pwned"),)


def test_a_pickle_that_would_run_something_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (source / "model.safetensors").unlink()
    torch.save({"wte.weight": Runs()}, source / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: can't be read"):
        import_folder(source, tmp_path / "run")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.tie_embeddings=false", "model.tie_embeddings: is False, and GPT-2 has True"),
        ("model.position_embedding=rotary", "model.position_embedding: is 'rotary', and GPT-2 has 'learned'"),
        ("model.num_query_groups=2", "model.query_groups: is 2, and GPT-2 has 4"),
    ],
)
def test_a_model_that_gpt2_can_not_be_is_not_exported(override: str, message: str, tmp_path: Path) -> None:
    from megatron_nlg.model.huggingface import config_of

    with pytest.raises(InputError, match=message):
        config_of(tiny(override).model, None, "run")


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    import_folder(source, tmp_path / "run")
    with pytest.raises(InputError, match="something is there already; choose another folder"):
        import_folder(source, tmp_path / "run")
    trained = tmp_path / "trained"
    trained.mkdir()
    (trained / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="something is there already"):
        import_folder(source, trained)
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # as when the import was killed before its checkpoint was whole
    import_folder(source, tmp_path / "run")
    with pytest.raises(InputError, match="is there already; choose another folder"):
        export_folder(tmp_path / "run", source, 1 << 40)
    config = build(RunConfig, parse_yaml((tmp_path / "run" / "config.yaml").read_text(), "c"), "c")
    assert config.model.sequence_length == 32
