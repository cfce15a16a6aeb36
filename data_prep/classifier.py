"""A linear classifier on hashed words and word 2-grams: the function fastText's supervised models compute.

Without a hidden non-linearity fastText's average of embeddings times an output matrix is, for two classes, the average
of one weight a feature. Those weights are learnt here by SciPy's truncated Newton method on the logistic loss: the same
data give the same model, on any number of cores. A model is two arrays in a safetensors file, with its checksum in a
JSON file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.files import file_sha256, read_json, replacing, write_json
from data_prep.words import words_of
from megatron_nlg.config.errors import InputError

WEIGHTS, ABOUT = "quality.safetensors", "quality.json"
_MEND = "give a folder in which megatron-nlg prep trained a classifier, such as shards/quality"
_DECAY = 1e-3
_EVALUATIONS = 200
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(29))


class Features(NamedTuple):
    """Hashed features of documents, one after the other."""

    starts: NDArray[np.int64]
    """Where each document's begin, and the end; [documents + 1]."""
    buckets: NDArray[np.int32]
    """[features]"""


class Model(NamedTuple):
    """Its score is sigmoid(bias + mean of the features' weights)."""

    weights: NDArray[np.float32]
    """[2 ** bucket_bits]"""
    bias: float
    max_words: int

    def scores(self, texts: pa.Array) -> NDArray[np.float64]:
        """Probability of being good text; [documents]."""
        return self.of_features(features_of(texts, len(self.weights).bit_length() - 1, self.max_words))

    def of_features(self, features: Features) -> NDArray[np.float64]:
        """The same, of what features_of made of the texts; [documents]."""
        ends = np.concatenate([[0.0], np.cumsum(self.weights[features.buckets], dtype=np.float64)])
        sums = ends[features.starts[1:]] - ends[features.starts[:-1]]
        return _sigmoid(self.bias + sums / np.maximum(np.diff(features.starts), 1))


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return out


def features_of(texts: pa.Array, bits: int, max_words: int) -> Features:
    """Lower-case words and pairs of neighbours, hashed to 0 … 2^bits - 1."""
    words = words_of(pc.utf8_lower(texts))
    distinct = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words.distinct.to_pylist())
    hashes = np.frombuffer(distinct, "<u8")[words.codes]
    counts = np.minimum(words.counts, max_words) if max_words else words.counts
    offsets = np.arange(len(words.codes)) - np.repeat(words.starts[:-1], words.counts)
    taken = offsets < np.repeat(counts, words.counts)
    hashes, offsets = hashes[taken], offsets[taken]
    first, second, shift = _MIX
    pairs = (hashes[:-1] * first + (hashes[1:] ^ (hashes[1:] >> shift)) * second)[offsets[1:] > 0]
    singles = np.maximum(counts - 1, 0)
    starts = np.concatenate([[0], np.cumsum(counts + singles)])
    out = np.empty(int(starts[-1]), np.uint64)
    is_single = np.arange(len(out)) - np.repeat(starts[:-1], counts + singles) < np.repeat(counts, counts + singles)
    out[is_single], out[~is_single] = hashes, pairs
    return Features(starts, ((out * first) >> np.uint64(64 - bits)).astype(np.int32))


def join(parts: Sequence[Features]) -> Features:
    """Documents of several batches as one."""
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return Features(np.concatenate([[0], np.cumsum(counts)]), np.concatenate([part.buckets for part in parts]))


def train(features: Features, good: NDArray[np.bool_], bits: int, max_words: int) -> Model:
    """Fit to documents that are good or not, [documents]; both sides weigh the same, however many they are."""
    from scipy.optimize import minimize
    from scipy.sparse import csr_array

    counts = np.diff(features.starts)
    # Means of hundreds of features are small, and so would be all slopes: scaled, an average document has length one.
    scale = np.sqrt(max(counts.mean(), 1))
    values = np.repeat(scale / np.maximum(counts, 1), counts)
    matrix = csr_array((values, features.buckets, features.starts), shape=(len(counts), 1 << bits), copy=True)
    matrix.sum_duplicates()
    # What only one document has says nothing about others: its weight stays 0, and most weights need not be searched.
    used = np.flatnonzero(np.bincount(matrix.indices, minlength=1 << bits) > 1)
    matrix = csr_array(matrix[:, used])
    share = np.where(good, 0.5 / max(good.sum(), 1), 0.5 / max((~good).sum(), 1))
    sign = np.where(good, 1.0, -1.0)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (matrix @ weights + bias)
        slope = -sign * share * _sigmoid(-margin)
        value = float((share * np.logaddexp(0, -margin)).sum() + 0.5 * _DECAY * (weights * weights).sum())
        return value, np.append(matrix.T @ slope + _DECAY * weights, slope.sum())

    # Of SciPy's methods the one without BLAS, whose threads would add numbers in an order that hangs on their count.
    found = minimize(loss, np.zeros(len(used) + 1), jac=True, method="TNC", options={"maxfun": _EVALUATIONS})
    weights = np.zeros(1 << bits, np.float32)
    weights[used] = found.x[:-1] * scale
    return Model(weights, float(np.float32(found.x[-1])), max_words)


def save_model(folder: Path, model: Model, about: dict[str, Any]) -> None:
    """Write the two files, `quality.json` last; `about` is what else it says."""
    from safetensors.numpy import save_file

    with replacing(folder / WEIGHTS) as temporary:
        save_file({"weights": model.weights, "bias": np.array([model.bias], np.float32)}, temporary)
    digest = file_sha256(folder / WEIGHTS)
    write_json(folder / ABOUT, {"format": 1, "max_words": model.max_words, "sha256": digest, **about})


def load_model(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Read what save_model wrote, and what its `quality.json` says.

    Raises InputError when files are missing, of another format, or not the ones that were written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about = read_json(folder / ABOUT, _MEND)
    path = folder / WEIGHTS
    if about.get("format") != 1:
        raise InputError(f"{folder / ABOUT}: format {about.get('format')!r} is not known; {_MEND}")
    try:
        if file_sha256(path) != about.get("sha256"):
            raise InputError(f"{path}: is not the file that {ABOUT} speaks of: its checksum differs; {_MEND}")
        arrays = load_file(path)
        return Model(arrays["weights"], float(arrays["bias"][0]), int(about["max_words"])), about
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a classifier: {error}; {_MEND}") from None
