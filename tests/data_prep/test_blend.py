from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.blend import Blend, BlendSource, BlendTokenizer, read_blend, write_blend
from data_prep.files import write_json
from data_prep.indexed import IndexedWriter
from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.errors import ConfigError, InputError


@pytest.fixture
def blend(tmp_path: Path) -> Path:
    tokenizer = CharacterTokenizer("abc")
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "tokens").mkdir()
    sources = []
    for name, weight in (("x", 0.7), ("y", 0.3)):
        with IndexedWriter(tmp_path / "tokens" / name, np.dtype(np.uint16)) as writer:
            writer.add(np.array([0, 1, 2, tokenizer.eod]))
        write_json(tmp_path / "tokens" / f"{name}.json", {"tokenizer_identity": tokenizer.identity})
        sources.append(BlendSource(name=name, tokens=f"tokens/{name}", weight=weight, documents=1, token_count=4))
    about = BlendTokenizer(
        path="tokenizer", kind="char", identity=tokenizer.identity, vocab_size=tokenizer.vocab_size, eod=tokenizer.eod
    )
    write_blend(tmp_path / "blend.yaml", Blend(tokenizer=about, sources=tuple(sources)))
    return tmp_path / "blend.yaml"


def test_read_what_was_written_with_absolute_paths(blend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = blend.read_text()
    assert "path: tokenizer\n" in text
    assert "tokens: tokens/x\n" in text
    monkeypatch.chdir(blend.parent)
    read = read_blend(Path("blend.yaml"))
    assert read.tokenizer.path == str(blend.parent.resolve() / "tokenizer")
    assert [(s.name, s.tokens, s.weight) for s in read.sources] == [
        ("x", str(blend.parent.resolve() / "tokens" / "x"), 0.7),
        ("y", str(blend.parent.resolve() / "tokens" / "y"), 0.3),
    ]


def change(path: Path, edit: Callable[[Any], None]) -> None:
    tree = yaml.safe_load(path.read_text())
    edit(tree)
    path.write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t["sources"][0].update(weight=0.0), r"sources\.0\.weight: .*greater than 0"),
        (lambda t: t["sources"][1].update(weight=-1.0), r"sources\.1\.weight: .*greater than 0"),
        (lambda t: t["sources"][0].update(weigth=1.0), r"sources\.0\.weigth: unknown key"),
        (lambda t: t.update(sources=[]), "sources: .*at least 1 item"),
        (lambda t: t["sources"][1].update(name="x"), r"sources\.1\.name: 'x' is given twice"),
        (lambda t: t["sources"][0].update(documents=2), r"sources\.0\.documents: 2, but .*x\.idx holds 1"),
        (lambda t: t["sources"][0].update(token_count=5), r"sources\.0\.token_count: 5, but .*x\.idx holds 4"),
        (lambda t: t["sources"][0].update(tokens="tokens/z"), r"z\.idx: No such file"),
        (lambda t: t["tokenizer"].update(identity="sha256:0"), r"tokenizer\.identity: 'sha256:0', but "),
        (lambda t: t["tokenizer"].update(path="nowhere"), r"tokenizer\.path: .*meta\.json: no such file"),
    ],
)
def test_bad_blends(blend: Path, edit: Callable[[Any], None], message: str) -> None:
    change(blend, edit)
    with pytest.raises(InputError, match=message):
        read_blend(blend)


def test_all_problems_at_once(blend: Path) -> None:
    folder = blend.parent / "tokens"
    (folder / "x.bin").write_bytes(b"\0")
    write_json(folder / "y.json", {"tokenizer_identity": "sha256:other"})
    with pytest.raises(ConfigError) as caught:
        read_blend(blend)
    message = str(caught.value)
    assert len(caught.value.problems) == 2
    assert "x.bin: truncated: x.idx asks for 8 bytes, found 1" in message
    assert "made by tokenizer 'sha256:other', not by the blend's" in message
