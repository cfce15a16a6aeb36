import random
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.dedup.compiled import kernel
from data_prep.dedup.shingles import (
    Shingling,
    Signing,
    band_keys,
    content_hashes,
    grams,
    jaccard,
    shingles,
    signatures,
    words,
)
from data_prep.dedup.shingles import permutations as drawn
from tests.data_prep.dedup import oracle

SAME_UNICODE = unicodedata.unidata_version == kernel().UNICODE_VERSION
CHARACTERS = st.one_of(
    st.sampled_from("abzAZ09_ \n-.,@[`{\x7f\0\u00a0"),
    st.sampled_from("éßÉŐшЖ漢字ひカกမ한글\u0301\u3000’—😀\U00020000K\u0130\u1e9e"),
    st.characters(exclude_categories=["Cs"]) if SAME_UNICODE else st.nothing(),
)
TEXTS = st.lists(
    st.one_of(st.text(CHARACTERS, max_size=300), st.text(st.sampled_from("ab A_\n\u00e9"), max_size=300)), max_size=8
)


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@settings(max_examples=300, deadline=None)
@given(texts=TEXTS)
def test_words_are_the_oracles(texts: list[str]) -> None:
    found = words(large(texts))
    expected = [oracle.split(text) for text in texts]
    base = np.cumsum([0] + [len(text.encode()) for text in texts])
    assert found.hashes.tolist() == [oracle.word_hash(w) for document in expected for w, _, _ in document]
    assert found.starts.tolist() == [base[i] + s for i, document in enumerate(expected) for _, s, _ in document]
    assert found.ends.tolist() == [base[i] + e for i, document in enumerate(expected) for _, _, e in document]
    assert np.diff(found.documents).tolist() == [len(document) for document in expected]


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, size=st.integers(1, 7), unit=st.sampled_from(["words", "characters"]))
def test_shingles_are_the_oracles(texts: list[str], size: int, unit: str) -> None:
    found = shingles(large(texts), Shingling(unit, size))  # type: ignore[arg-type]
    for text, (start, end) in zip(texts, pairwise(found.documents.tolist()), strict=True):
        if unit == "words":
            units = [oracle.word_hash(word) for word, _, _ in oracle.split(text)]
        else:
            units = [oracle.character_hash(character) for character in oracle.normal(text)]
        assert found.hashes[start:end].tolist() == oracle.shingle_hashes(units, size)


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS)
def test_content_hashes_are_murmurs_of_the_normal_text(texts: list[str]) -> None:
    expected = [oracle.murmur3(oracle.normal(text).encode()) for text in texts]
    assert [tuple(row) for row in content_hashes(large(texts)).tolist()] == expected


def test_murmur_is_the_known_function() -> None:
    assert oracle.murmur3(b"") == (0, 0)
    assert oracle.murmur3(b"hello") == (0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19)


@pytest.mark.parametrize("length", [65_530, 65_536, 140_000])
@pytest.mark.parametrize("letters", ["x", "xy zw ", "漢", "é", "ab-é漢 "])
def test_documents_longer_than_a_segment(length: int, letters: str) -> None:
    text = (letters * length)[:length]
    found, expected = words(large(["a", text])), oracle.split(text)
    assert found.hashes[1:].tolist() == [oracle.word_hash(word) for word, _, _ in expected]
    assert found.starts[1:].tolist() == [1 + start for _, start, _ in expected]


def test_any_bytes_are_read_safely() -> None:
    draw = random.Random(1)
    rows = [draw.randbytes(draw.randrange(200)) for _ in range(2000)]
    rows += [b"\xc3", b"ab\xf0\x9f", b"\xed\xa0\x80", b"\xff" * 100, b"\xc0\x80", b"caf\xe9 au lait"]
    found = words(pa.array(rows, pa.large_binary()))
    assert len(found.documents) == len(rows) + 1
    assert np.all(found.starts < found.ends)
    assert len(content_hashes(pa.array(rows, pa.large_binary()))) == len(rows)
    last = words(pa.array([b"caf\xe9 au lait"], pa.large_binary()))
    assert last.hashes.tolist() == [oracle.word_hash(word) for word in ("caf", "au", "lait")]


def test_every_form_of_arrow_string_is_the_same() -> None:
    texts = ["one two three", "", "four five", "six"]
    expected = signatures(large(texts), Signing())
    forms = [
        pa.array(texts, pa.string()),
        large(["zero", *texts]).slice(1),
        pa.array(["zero", *texts, "end"], pa.string()).slice(1, 4),
        pa.chunked_array([large(texts[:1]), large([]), large(texts[1:])]),
        large([texts[0], None, *texts[2:]]),  # type: ignore[list-item]
    ]
    for form in forms:
        np.testing.assert_array_equal(signatures(form, Signing()), expected)
    assert signatures(pa.chunked_array([], pa.large_string()), Signing()).shape == (0, 128)
    np.testing.assert_array_equal(signatures(large(texts * 300), Signing(), threads=3), np.tile(expected, (300, 1)))


@pytest.mark.parametrize(("permutations", "seed"), [(1, 1), (64, 3), (100, 2), (128, 1), (260, 1234)])
@pytest.mark.parametrize("unit", ["words", "characters"])
def test_signatures_are_datasketchs(permutations: int, seed: int, unit: str) -> None:
    draw = random.Random(seed)
    texts = ["", "one", *(" ".join(f"Wörd{draw.randrange(500)}" for _ in range(n)) for n in (5, 70, 3000))]
    rules = Signing(Shingling(unit, 5), permutations, seed)  # type: ignore[arg-type]
    sets = shingles(large(texts), rules.shingling)
    ours = signatures(large(texts), rules)
    for i, (start, end) in enumerate(pairwise(sets.documents.tolist())):
        theirs = MinHash(num_perm=permutations, seed=seed, hashfunc=int, scheme="affine32")
        theirs.update_batch([int(h) >> 32 for h in sets.hashes[start:end]])
        np.testing.assert_array_equal(ours[i], theirs.hashvalues)
    if permutations % 64 == 0:
        halves = np.empty_like(ours)
        kernel().minima(sets.hashes, sets.documents, *drawn(permutations, seed), halves)
        np.testing.assert_array_equal(halves, ours)


@pytest.mark.parametrize("level", [1, 3])
def test_every_processors_results_are_the_same(level: int) -> None:
    draw = random.Random(5)
    texts = large(["".join(draw.choices("aB _\n.é漢7", k=draw.randrange(400))) for _ in range(300)])
    rules = Signing(Shingling("words", 3), 100)
    ours = [words(texts).hashes, words(texts).starts, signatures(texts, rules), content_hashes(texts)]
    best = kernel().use_level(4)
    try:
        assert kernel().use_level(level) == min(level, best)
        theirs = [words(texts).hashes, words(texts).starts, signatures(texts, rules), content_hashes(texts)]
    finally:
        kernel().use_level(4)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


SMALL = st.lists(st.lists(st.integers(0, 12), max_size=40), min_size=1, max_size=6)


@settings(deadline=None)
@given(documents=SMALL)
def test_jaccard_is_that_of_the_sets(documents: list[list[int]]) -> None:
    texts = [" ".join(map(str, numbers)) for numbers in documents]
    pairs = [(i, j) for i in range(len(texts)) for j in range(len(texts))] * 3
    found = jaccard(shingles(large(texts), Shingling(size=2)), np.array(pairs))
    for (i, j), value in zip(pairs, found, strict=True):
        a, b = (
            {tuple(d[k : k + 2]) for k in range(max(1, len(d) - 1))} if d else set()
            for d in (documents[i], documents[j])
        )
        assert value == (len(a & b) / len(a | b) if a and b else 0)


def test_jaccard_of_sets_that_outgrow_the_table() -> None:
    texts = [" ".join(f"w{i}" for i in range(n)) for n in (10, 5000, 20, 40_000, 30)]
    found = jaccard(shingles(large(texts), Shingling(size=1)), np.array([(0, 2), (1, 3), (0, 4), (2, 4), (4, 4)]))
    assert found.tolist() == [10 / 20, 5000 / 40_000, 10 / 30, 20 / 30, 1]


def test_grams_of_words() -> None:
    found = words(large(["a b c d", "x", "B c D e"]))
    three = grams(found, 3)
    expected = [oracle.shingle_hashes([oracle.word_hash(w) for w in run], 3)[0] for run in ("abc", "bcd", "bcd", "cde")]
    assert three.tolist() == [*expected[:2], 0, 0, 0, *expected[2:], 0, 0]


def test_hashes_collide_as_seldom_as_chance_has_it() -> None:
    """64 bits: a million collide with probability 3e-8. The upper 32, which are signed: n² / 2³³ of n do."""
    draw = np.random.default_rng(1)
    near = [f"{i:x}" for i in range(1 << 19)]  # words that differ in few bits
    far = draw.integers(97, 123, (1 << 19, 11), np.uint8).tobytes().decode()
    text = large([" ".join([*near, *(far[i : i + 11] for i in range(0, len(far), 11))])])
    for size in (1, 2, 13):
        hashes = shingles(text, Shingling(size=size)).hashes
        assert len(np.unique(hashes)) == len(hashes)
        chance = len(hashes) ** 2 / 2**33
        assert 0.5 * chance < len(hashes) - len(np.unique(hashes >> np.uint64(32))) < 2 * chance
    swapped = shingles(large([f"{a} {b}" for a in range(400) for b in range(400)]), Shingling(size=2)).hashes
    assert len(np.unique(swapped)) == 160_000


def test_band_keys_are_equal_where_the_rows_are() -> None:
    signed = np.random.default_rng(1).integers(0, 3, (500, 12), np.uint32)
    keys = band_keys(signed, 4, 3)
    for band in range(4):
        rows = [tuple(row) for row in signed[:, 3 * band : 3 * band + 3].tolist()]
        assert len({*zip(rows, keys[band].tolist(), strict=True)}) == len(set(rows)) == len(set(keys[band].tolist()))


@pytest.mark.parametrize("offsets", [[0, 9], [3, 2], [-1, 2]])
def test_offsets_beyond_the_data_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must ascend"):
        kernel().words(b"12345678", np.array(offsets))
