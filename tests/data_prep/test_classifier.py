import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.classifier import ABOUT, WEIGHTS, features_of, join, load_model, save_model, train
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import sentence


def texts(*values: str) -> pa.Array:
    return pa.array(values, pa.large_string())


def test_features_are_words_and_pairs_of_their_document_alone() -> None:
    found = features_of(texts("a b c", "", "B", "a b"), 20, 0)
    assert np.diff(found.starts).tolist() == [5, 0, 1, 3]
    whole, b, ab = (found.buckets[found.starts[i] : found.starts[i + 1]].tolist() for i in (0, 2, 3))
    assert b[0] == whole[1] == ab[1]  # the same word, in any case and any batch
    assert whole[3] == ab[2] == features_of(texts("x", "a b"), 20, 0).buckets[3]  # the same pair
    assert len(set(whole)) == 5
    assert features_of(texts("a b c d"), 20, 2).buckets.tolist() == ab
    parts = join([features_of(texts("a b c", ""), 20, 0), features_of(texts("B", "a b"), 20, 0)])
    assert parts.starts.tolist() == found.starts.tolist()
    assert parts.buckets.tolist() == found.buckets.tolist()


def test_the_model_does_not_depend_on_the_number_of_threads() -> None:
    code = (
        "import hashlib, numpy as np, pyarrow as pa\n"
        "from data_prep.classifier import features_of, train\n"
        "draw = np.random.default_rng(1)\n"
        "texts = [' '.join(map(str, draw.integers(i % 2 * 3000, 9000, 300))) for i in range(200)]\n"
        "model = train(features_of(pa.array(texts, pa.large_string()), 17, 0), np.arange(200) % 2 == 0, 17, 0)\n"
        "print(hashlib.sha256(model.weights.tobytes()).hexdigest())"
    )
    outputs = set()
    for threads in ("1", "2", "7"):
        names = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-c", code]
        outputs.add(subprocess.run(command, env={**os.environ, **names}, capture_output=True, check=True).stdout)
    assert len(outputs) == 1


def test_it_learns_what_tells_two_kinds_of_text_apart(tmp_path: Path) -> None:
    good = [sentence(i, 60) for i in range(60)]
    bad = [" ".join(reversed(sentence(1000 + i, 60).replace("e", "i").split())) for i in range(30)]
    data = texts(*good[:50], *bad[:25])
    labels = np.arange(75) < 50
    features = features_of(data, 16, 100)
    model = train(features, labels, 16, 100)
    again = train(features, labels, 16, 100)  # what it was given is as it was
    assert np.array_equal(model.weights, again.weights)
    assert (model.scores(texts(*good[50:])) > 0.5).all()
    assert (model.scores(texts(*bad[25:])) < 0.5).all()
    assert np.array_equal(model.of_features(features), model.scores(data))
    save_model(tmp_path, model, {"held_out_accuracy": 1.0})
    loaded, about = load_model(tmp_path)
    assert np.array_equal(loaded.scores(data), model.scores(data))
    assert about["held_out_accuracy"] == 1.0
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="its checksum differs"):
        load_model(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match="not a classifier"):
        load_model(tmp_path)
    (tmp_path / ABOUT).write_text('{"format": 2}')
    with pytest.raises(InputError, match="format 2"):
        load_model(tmp_path)
