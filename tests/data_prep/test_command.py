"""Whole preparations, from the command a user types."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from megatron.core.datasets.indexed_dataset import IndexedDataset

from data_prep import files
from data_prep.blend import read_blend
from data_prep.tokenizer import EOD, load_tokenizer
from megatron_nlg.cli import main
from megatron_nlg.config.errors import InputError
from tests.data_prep import crash
from tests.data_prep.material import data_folder, sentence, tree_bytes

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "configs" / "corpora"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two sources with duplicates within and between them, and lines that can't be read."""
    folder = tmp_path / "corpus"
    (folder / "books").mkdir(parents=True)
    for i in range(12):
        (folder / "books" / f"{i:02}.txt").write_text(sentence(i, 120), encoding="utf-8")
    (folder / "books" / "bad.txt").write_bytes(b"caf\xe9")
    near = " ".join([*sentence(3, 120).split()[:-2], "other", "end"])
    rows: list[Any] = [{"text": sentence(100 + i, 100), "n": i} for i in range(20)]
    rows[5:5] = [{"text": sentence(0, 120).upper()}, {"text": near}, {"body": "x"}, {"text": "short"}]
    rows.append({"text": sentence(104, 100)})
    lines = [json.dumps(row) for row in rows]
    lines.insert(2, '{"text": "cut')
    (folder / "web.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
        out: {tmp_path}/out
        root: {corpus}
        sources:
          - {{name: books, paths: [books], weight: 3}}
          - {{name: web, paths: [web.jsonl]}}
        clean: {{min_characters: 20}}
        dedup: {{num_perm: 64, bands: 16, rows: 4}}
        tokenizer: {{kind: bpe, vocab_size: 400}}
        shard_bytes: 3000
        processes: 1
        """
    )
    return path


def prep(*words: object) -> int:
    return main(["prep", *map(str, words)])


def test_a_whole_preparation(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert prep("run", recipe) == 0
    assert capsys.readouterr().out.strip() == str(out / "blend.yaml")
    stats = json.loads((out / "stats.json").read_text())
    read, clean, dedup = (stats["stages"][name]["sources"] for name in ("read", "clean", "dedup"))
    assert (read["books"]["documents_in"], read["books"]["documents_out"]) == (13, 12)
    assert {r: n["documents"] for r, n in read["web"]["dropped"].items()} == {"invalid_json": 1, "missing_text": 1}
    assert {r: n["documents"] for r, n in clean["web"]["dropped"].items()} == {"too_short": 1}
    assert dedup["books"]["dropped"] == {}
    dropped = {r: n["documents"] for r, n in dedup["web"]["dropped"].items()}
    assert dropped == {"exact_duplicate": 2, "fuzzy_duplicate": 1}
    for before, after in ((read, clean), (clean, dedup)):
        for source in ("books", "web"):
            assert before[source]["documents_out"] == after[source]["documents_in"]
            assert before[source]["bytes_out"] == after[source]["bytes_in"]
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert [(r["source"], r["file"], r["line"], r["reason"]) for r in rejects] == [
        ("books", "books/bad.txt", 1, "invalid_utf8"),
        ("web", "web.jsonl", 3, "invalid_json"),
        ("web", "web.jsonl", 9, "missing_text"),
    ]
    duplicates = [json.loads(line) for line in (out / "shards/dedup/duplicates.jsonl").read_text().splitlines()]
    assert [(d["id"], d["kept"], d["reason"]) for d in duplicates] == [
        ("web/web.jsonl:7", "books/books/00.txt", "exact_duplicate"),
        ("web/web.jsonl:8", "books/books/03.txt", "fuzzy_duplicate"),
        ("web/web.jsonl:26", "web/web.jsonl:6", "exact_duplicate"),
    ]
    check_tokens(
        out, {"books": [sentence(i, 120) for i in range(12)], "web": [sentence(100 + i, 100) for i in range(20)]}
    )
    assert not (out / ".work").exists()


def check_tokens(out: Path, texts: dict[str, list[str]]) -> None:
    """Megatron-core reads the texts back, each followed by one end-of-document token."""
    blend = read_blend(out / "blend.yaml")
    tokenizer = load_tokenizer(Path(blend.tokenizer.path))
    assert [source.name for source in blend.sources] == list(texts)
    for source in blend.sources:
        dataset = IndexedDataset(source.tokens)
        assert [tokenizer.decode(dataset[i].tolist()) for i in range(len(dataset))] == [
            text + EOD for text in texts[source.name]
        ]
        assert all((dataset[i] == tokenizer.eod).sum() == 1 for i in range(len(dataset)))
        about = json.loads(Path(source.tokens + ".json").read_text())
        content = Path(source.tokens + ".bin")
        sums = json.loads((content.parent / "done.json").read_text())["outputs"]
        assert sums[content.name]["sha256"] == files.file_sha256(content)
        assert about["bin_bytes"] == content.stat().st_size
        assert (about["documents"], about["tokens"]) == (source.documents, source.token_count)
        assert about["tokenizer_identity"] == tokenizer.identity == blend.tokenizer.identity


def test_same_bytes_for_any_number_of_processes(recipe: Path, tmp_path: Path) -> None:
    for settings in (
        "{kind: bpe, vocab_size: 400}",
        "{kind: sentencepiece, vocab_size: 330, model: unigram}",
        "{kind: char, vocab_size: null}",
    ):
        for processes in (1, 2):
            words = (f"processes={processes}", f"tokenizer={settings}", "--out", tmp_path / f"p{processes}")
            assert prep("run", recipe, *words) == 0
        assert tree_bytes(tmp_path / "p1") == tree_bytes(tmp_path / "p2")


def test_decontamination_of_a_whole_preparation(
    recipe: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = " ".join(sentence(105, 100).split()[40:60])
    (corpus / "task.jsonl").write_text(json.dumps({"ctx": f"Asked: {example}"}) + "\n")
    tasks = "decontaminate={tasks: [{name: asked, paths: task.jsonl}], characters: 20, min_characters: 20}"
    assert prep("run", recipe, tasks) == 0
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["decontaminate"]["removed"] == 1  # these texts have no sentence ends
    assert stats["decontaminate"]["tasks"]["asked"] == {
        "documents": 1,
        "n": 13,
        "ngrams": 9,
        "ngrams_found": 8,
        "ngrams_spared": 0,
        "occurrences": 8,
        "texts": 1,
        "texts_too_short": 0,
    }
    assert stats["stages"]["decontaminate"]["sources"]["web"]["dropped"] == {
        "contaminated": {"documents": 1, "bytes": len(sentence(105, 100))}
    }
    assert stats["tokens"]["web"]["documents"] == 19
    before = tree_bytes(tmp_path / "out")
    assert prep("run", recipe, tasks, "processes=2", "--out", tmp_path / "two") == 0
    assert tree_bytes(tmp_path / "two") == before
    capsys.readouterr()
    (corpus / "task.jsonl").write_text(json.dumps({"ctx": "of another text that is long enough to count"}) + "\n")
    assert prep("run", recipe, tasks) == 0
    said = capsys.readouterr().err
    assert "dedup      was done" in said
    (line,) = (line for line in said.splitlines() if line.startswith("decontaminate "))
    assert "32 documents in, 32 out" in line
    assert "was done" not in line
    (corpus / "task.jsonl").unlink()
    assert "task.jsonl: no such file" in fails(capsys, 2, "run", recipe, tasks)


@pytest.mark.slow
def test_killed_before_every_fifth_rename_and_run_again(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    """Each run dies before its fifth rename; all of them together make what one undisturbed run makes."""
    (corpus / "task.jsonl").write_text(json.dumps({"ctx": " ".join(sentence(105, 100).split()[40:60])}) + "\n")
    words = ("run", recipe, "shard_bytes=8000", "decontaminate.tasks=[{name: asked, paths: task.jsonl}]")
    assert prep(*words, "--out", tmp_path / "whole") == 0
    deaths = 0
    while (code := crash.prep(5, *words)) != 0:
        assert code == 137
        deaths += 1
        assert deaths < 40
        assert_nothing_half_written(tmp_path / "out")
    assert deaths > 8
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def assert_nothing_half_written(out: Path) -> None:
    for folder in ("shards/read", "shards/clean", "shards/dedup", "shards/decontaminate", "tokenizer", "tokens"):
        if (out / folder).exists():
            done = json.loads((out / folder / "done.json").read_text())
            sizes = {p.name: p.stat().st_size for p in (out / folder).iterdir() if p.name != "done.json"}
            assert sizes == {name: about["bytes"] for name, about in done["outputs"].items()}
    if (out / "blend.yaml").exists():
        read_blend(out / "blend.yaml")


def test_killed_between_moving_the_old_folder_away_and_the_new_one_in(recipe: Path, tmp_path: Path) -> None:
    """A changed recipe replaces finished folders; dying at each rename of that loses nothing either."""
    assert prep("run", recipe, "clean.min_characters=30", "--out", tmp_path / "whole") == 0
    assert prep("run", recipe) == 0
    finished = tree_bytes(tmp_path / "out")
    for number in (3, 6, 7, 8):
        shutil.rmtree(tmp_path / "out")
        for name, content in finished.items():
            path = tmp_path / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert crash.prep(number, "clean", recipe, "clean.min_characters=30", "shard_bytes=3000000") in (0, 137)
        assert prep("run", recipe, "clean.min_characters=30") == 0
        assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_kill_9_of_the_parent_ends_its_workers(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe, "--out", tmp_path / "whole") == 0
    command = [sys.executable, "-m", "megatron_nlg.cli", "prep", "run", str(recipe), "processes=2"]
    process = psutil.Process(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL).pid)
    deadline = time.monotonic() + 60
    workers: list[psutil.Process] = []
    while len(workers) < 2 and process.is_running() and time.monotonic() < deadline:
        workers = [c for c in process.children() if "spawn_main" in " ".join(c.cmdline())]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert prep("run", recipe) == 0
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def test_stages_by_name_and_what_a_change_costs(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def stages(*words: object) -> list[str]:
        """The stages that had work to do."""
        assert prep(*words) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line.split()[0] for line in lines if "was done" not in line and not line.startswith("report")]

    assert stages("clean", recipe) == ["read", "clean"]
    assert {p.name for p in (out / "shards").iterdir()} == {"read", "clean"}
    assert set(json.loads((out / "stats.json").read_text())["stages"]) == {"read", "clean"}
    assert stages("dedup", recipe) == ["dedup"]
    assert stages("run", recipe) == ["tokenizer", "tokenize", "blend"]
    assert stages("run", recipe, "sources.web.weight=9", "processes=2") == ["blend"]
    assert [s.weight for s in read_blend(out / "blend.yaml").sources] == [3.0, 9.0]
    assert stages("run", recipe, "tokenize.append_eod=false") == ["tokenize", "blend"]
    assert stages("run", recipe, "tokenizer={kind: char, vocab_size: null}") == ["tokenizer", "tokenize", "blend"]
    assert stages("run", recipe, "seed=2") == ["dedup", "tokenizer", "tokenize", "blend"]
    os.utime(tmp_path / "corpus" / "web.jsonl", ns=(1, 1))
    assert stages("read", recipe) == ["read"]


def test_no_blend_speaks_of_files_that_are_being_replaced(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe) == 0
    assert prep("tokenizer", recipe, "tokenizer={kind: char, vocab_size: null}") == 0
    assert not (tmp_path / "out" / "blend.yaml").exists()


def test_truncated_tokens_are_made_again(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe) == 0
    before = tree_bytes(tmp_path / "out")
    path = tmp_path / "out" / "tokens" / "web.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"web\.bin: truncated.*prepare the corpus again"):
        read_blend(tmp_path / "out" / "blend.yaml")
    assert prep("run", recipe) == 0
    assert tree_bytes(tmp_path / "out") == before


def test_append_eod_off_and_a_loaded_tokenizer(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe) == 0
    load = f"tokenizer={{kind: null, vocab_size: null, load: {tmp_path}/out/tokenizer}}"
    assert prep("run", recipe, load, "tokenize.append_eod=false", "--out", tmp_path / "two") == 0
    one, two = read_blend(tmp_path / "out/blend.yaml"), read_blend(tmp_path / "two/blend.yaml")
    assert one.tokenizer.identity == two.tokenizer.identity
    for a, b in zip(one.sources, two.sources, strict=True):
        assert a.token_count == b.token_count + b.documents
        # Kept: Megatron-core unmaps a file when its dataset goes, whoever still looks at its tokens.
        first, second = IndexedDataset(a.tokens), IndexedDataset(b.tokens)
        np.testing.assert_array_equal(first[0], [*second[0], one.tokenizer.eod])


def test_training_on_a_sample(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe, "tokenizer.train_bytes=3000") == 0
    small = read_blend(tmp_path / "out/blend.yaml").tokenizer
    assert prep("run", recipe, "--out", tmp_path / "all") == 0
    assert small.identity != read_blend(tmp_path / "all/blend.yaml").tokenizer.identity


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    assert prep(*words) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_bad_input_is_one_readable_message(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert "matches nothing" in fails(capsys, 2, "run", recipe, "sources.web.paths=nowhere")
    assert "unknown key; did you mean dedup.threshold?" in fails(capsys, 2, "run", recipe, "dedup.treshold=1")
    assert "no such file" in fails(capsys, 2, "run", tmp_path / "none.yaml")
    words = "tokenizer={kind: gpt2, vocab_size: null, vocab: no.json, merges: no.txt}"
    assert "no.json: no such file" in fails(capsys, 2, "run", recipe, words)
    assert not out.exists()  # all of these are found before anything is written
    message = fails(capsys, 2, "run", recipe, "clean.min_characters=5000")
    assert "source books: no document is left after clean (12 too_short); loosen" in message
    message = fails(capsys, 2, "run", recipe, "sources.web.text_key=body", "sources.web.paths=books/bad.txt")
    assert "source web: no document is left after read (1 invalid_utf8); the first: " in message
    message = fails(capsys, 2, "run", recipe, "sources.web.paths=books")
    assert "source web: no document is left after dedup (12 exact_duplicate)" in message
    message = fails(capsys, 2, "run", recipe, "tokenizer={kind: sentencepiece, vocab_size: 9000}")
    assert "tokenizer.vocab_size: 9000 does not fit this corpus" in message


def test_a_character_that_the_tokenizer_lacks_names_the_document(
    recipe: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prep("run", recipe, "tokenizer={kind: char, vocab_size: null}") == 0
    (corpus / "books" / "00.txt").write_text("Ω" + sentence(0, 120))
    load = f"tokenizer={{kind: null, vocab_size: null, load: {tmp_path}/out/tokenizer}}"
    message = fails(capsys, 2, "run", recipe, load, "--out", tmp_path / "two")
    assert "document books/books/00.txt: character 'Ω'" in message
    assert not (tmp_path / "two" / "tokens").exists()


def test_a_full_disk_is_exit_1_with_the_mend_and_the_rerun_goes_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert prep("run", recipe, "--out", whole) == 0
    left = 25
    real: Callable[[Path], None] = files.sync

    def sync(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    monkeypatch.setattr(files, "sync", sync)
    capsys.readouterr()
    message = fails(capsys, 1, "run", recipe)
    assert "No space left on device; nothing half-written is left, free some space" in message
    assert_nothing_half_written(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.undo()
    assert prep("run", recipe) == 0
    assert tree_bytes(tmp_path / "out") == tree_bytes(whole)


def test_a_write_that_the_kernel_refuses(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file-size limit stands in for a full disk, below Parquet's writer this time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, hard))
    try:
        message = fails(capsys, 1, "run", recipe, "shard_bytes=1000000")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ".parquet: File too large" in message
    assert not list((tmp_path / "out").rglob("*.parquet"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_read_only_folder(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may write everywhere, so a root test run becomes nobody for a moment."""
    assert prep("run", recipe) == 0  # imports everything while that is allowed
    capsys.readouterr()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(recipe, folder / "recipe.yaml")
        (folder / "books").mkdir()
        (folder / "books" / "a.txt").write_text(sentence(1))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555)
        words = [folder / "recipe.yaml", f"root={name}", f"sources=[{{name: a, paths: {name}/books}}]"]
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            message = fails(capsys, 2, "run", *words, "--out", folder / "out")
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
            (folder / "books").chmod(0o755)
    assert f"{name}/out: cannot be written: Permission denied; choose another folder with --out" in message


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom megatron_nlg.cli import main\n"
        "try: main(['prep', 'run', '--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'numpy', 'pyarrow', 'pydantic', 'yaml', 'torch', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_preparing_imports_no_torch(recipe: Path) -> None:
    code = (
        f"import sys\nfrom megatron_nlg.cli import main\nassert main(['prep', 'run', {str(recipe)!r}]) == 0\n"
        "assert 'torch' not in sys.modules and 'megatron' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=100, cwd=ROOT)


@pytest.mark.slow
def test_demo_recipe(tmp_path: Path) -> None:
    assert prep("run", RECIPES / "python_documentation.yaml", "--out", tmp_path) == 0
    blend = read_blend(tmp_path / "blend.yaml")
    assert [(source.name, source.weight) for source in blend.sources] == [("documentation", 0.7), ("modules", 0.3)]
    assert blend.tokenizer.vocab_size == 4096
    assert all(source.documents > 200 for source in blend.sources)
    assert blend.sources[0].token_count > 300_000
    dedup = json.loads((tmp_path / "stats.json").read_text())["stages"]["dedup"]["total"]
    assert dedup["dropped"]


def test_tiny_shakespeare_by_characters(tmp_path: Path) -> None:
    text = data_folder("text", "tinyshakespeare.txt").read_text()
    recipe = RECIPES / "tiny_shakespeare_char.yaml"
    assert prep("run", recipe, f"root={data_folder()}", "--out", tmp_path) == 0
    blend = read_blend(tmp_path / "blend.yaml")
    (source,) = blend.sources
    assert (blend.tokenizer.vocab_size, source.documents, source.token_count) == (66, 10, 1_115_394)
    dataset, tokenizer = IndexedDataset(source.tokens), load_tokenizer(Path(blend.tokenizer.path))
    parts = [tokenizer.decode(dataset[i].tolist()) for i in range(10)]
    assert "".join(parts) == text
    assert parts[-1] == text[int(0.9 * len(text)) :]  # nanoGPT's validation split


def test_tiny_shakespeare_with_gpt2(tmp_path: Path) -> None:
    text = data_folder("text", "tinyshakespeare.txt").read_text()
    recipe = RECIPES / "tiny_shakespeare_gpt2.yaml"
    assert prep("run", recipe, f"root={data_folder()}", "--out", tmp_path) == 0
    blend = read_blend(tmp_path / "blend.yaml")
    (source,) = blend.sources
    assert source.token_count == 338_025 + 10
    tokenizer = load_tokenizer(Path(blend.tokenizer.path))
    dataset = IndexedDataset(source.tokens)
    tokens = np.concatenate([dataset[i][:-1] for i in range(10)])
    assert tokenizer.decode(tokens.tolist()) == text
    assert Counter(int(dataset[i][-1]) for i in range(10)) == {50256: 10}


def test_the_resolved_recipe_is_a_recipe(recipe: Path, tmp_path: Path) -> None:
    assert prep("run", recipe) == 0
    written = tmp_path / "out" / "recipe.yaml"
    assert "processes" not in yaml.safe_load(written.read_text())
    assert prep("run", written, "--out", tmp_path / "again") == 0
    assert tree_bytes(tmp_path / "again") == tree_bytes(tmp_path / "out")
