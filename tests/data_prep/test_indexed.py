import errno
import os
import struct
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

from data_prep.indexed import IndexedWriter, bin_path, check_indexed, idx_path, token_dtype
from megatron_nlg.config.errors import InputError, MegatronNlgError

Documents = list[np.ndarray]


def write(prefix: Path, documents: Documents, dtype: type = np.uint16) -> None:
    with IndexedWriter(prefix, np.dtype(dtype)) as writer:
        for tokens in documents:
            writer.add(tokens)


documents_strategy = st.lists(arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 65499)), max_size=12)


@settings(deadline=None)  # the machine is shared: time says nothing
@given(documents=documents_strategy, wide=st.booleans())
def test_same_bytes_as_megatron_core_and_readable_by_it(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, wide: bool
) -> None:
    folder = tmp_path_factory.mktemp("indexed")
    dtype = np.int32 if wide else np.uint16
    write(folder / "ours", documents, dtype)
    builder = IndexedDatasetBuilder(str(folder / "theirs.bin"), dtype=dtype)
    for tokens in documents:
        builder.add_document(tokens, [len(tokens)])
    builder.finalize(str(folder / "theirs.idx"))
    for ending in ("bin", "idx"):
        assert (folder / f"ours.{ending}").read_bytes() == (folder / f"theirs.{ending}").read_bytes()
    if any(len(tokens) for tokens in documents):  # Megatron-core cannot map an empty file
        dataset = IndexedDataset(str(folder / "ours"))
        assert len(dataset) == len(documents)
        for i, tokens in enumerate(documents):
            np.testing.assert_array_equal(dataset[i], tokens)
    info = check_indexed(folder / "ours")
    assert (info.documents, info.tokens) == (len(documents), sum(map(len, documents)))
    assert info.dtype == dtype


@pytest.mark.parametrize("vocab_size", [1, 65499, 65500, 65536, 100_000])
def test_dtype_is_megatrons_choice(vocab_size: int) -> None:
    assert token_dtype(vocab_size) == np.dtype(DType.optimal_dtype(vocab_size))


@settings(deadline=None)  # the machine is shared: time says nothing
@given(first=documents_strategy, second=documents_strategy)
def test_merging_equals_writing_at_once(
    tmp_path_factory: pytest.TempPathFactory, first: Documents, second: Documents
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    write(folder / "a", first)
    write(folder / "b", second)
    write(folder / "whole", first + second)
    with IndexedWriter(folder / "merged", np.dtype(np.uint16)) as writer:
        writer.add_indexed(folder / "a")
        writer.add_indexed(folder / "b")
    for path in (bin_path, idx_path):
        assert path(folder / "merged").read_bytes() == path(folder / "whole").read_bytes()


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EIO])
def test_a_file_system_that_cannot_copy_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    write(tmp_path / "a", [np.arange(10), np.arange(3)])
    monkeypatch.setattr(os, "copy_file_range", refuse)
    with (
        pytest.raises(MegatronNlgError, match="Input/output error") if refusal == errno.EIO else nullcontext(),
        IndexedWriter(tmp_path / "b", np.dtype(np.uint16)) as writer,
    ):
        writer.add(np.arange(7))
        writer.add_indexed(tmp_path / "a")
    if refusal == errno.EXDEV:
        assert bin_path(tmp_path / "b").read_bytes() == np.r_[:7, :10, :3].astype(np.uint16).tobytes()
    else:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.idx"]


def test_nothing_is_visible_before_the_end_or_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), IndexedWriter(tmp_path / "a", np.dtype(np.uint16)) as writer:
        writer.add(np.arange(5))
        assert not bin_path(tmp_path / "a").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_tokens_out_of_range_are_refused(tmp_path: Path) -> None:
    for bad in (np.array([70000]), np.array([-1])):
        with pytest.raises(ValueError, match="do not fit uint16"):
            write(tmp_path / "a", [bad])
    assert list(tmp_path.iterdir()) == []


def test_truncated_bin_names_file_bytes_and_mend(tmp_path: Path) -> None:
    write(tmp_path / "a", [np.arange(10), np.arange(3)])
    data = bin_path(tmp_path / "a").read_bytes()
    bin_path(tmp_path / "a").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"a\.bin: truncated: a\.idx asks for 26 bytes, found 25; prepare the corpus"):
        check_indexed(tmp_path / "a")
    bin_path(tmp_path / "a").write_bytes(data + b"\0")
    with pytest.raises(InputError, match=r"a\.bin: too long.*26 bytes, found 27"):
        check_indexed(tmp_path / "a")
    bin_path(tmp_path / "a").unlink()
    with pytest.raises(InputError, match=r"a\.bin: No such file"):
        check_indexed(tmp_path / "a")


@settings(deadline=None)  # the machine is shared: time says nothing
@given(data=st.data())
def test_a_cut_or_flipped_index_is_an_input_error_or_unharmed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    prefix = tmp_path_factory.mktemp("damage") / "a"
    write(prefix, [np.arange(10), np.arange(3), np.arange(7)])
    whole = idx_path(prefix).read_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        flipped = bytearray(whole)
        flipped[at] ^= data.draw(st.integers(1, 255))
        damaged = bytes(flipped)
    idx_path(prefix).write_bytes(damaged)
    try:
        info = check_indexed(prefix)
    except InputError as error:
        assert "a.idx" in str(error) or "a.bin" in str(error)
        return
    # A flip that makes another valid index of the same .bin: a boundary moved, or int16 read for uint16.
    assert info.tokens * info.dtype.itemsize == 40


def test_foreign_index_is_named(tmp_path: Path) -> None:
    idx_path(tmp_path / "a").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputError, match="not an MMIDIDX version 1 index"):
        check_indexed(tmp_path / "a")
    idx_path(tmp_path / "a").write_bytes(struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 2, 8, 0, 1) + bytes(8))
    with pytest.raises(InputError, match="version 2"):
        check_indexed(tmp_path / "a")


def test_full_disk_while_writing(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the kernel refuses the write."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MegatronNlgError, match=r"a\.bin: File too large; nothing half-written"):
            write(tmp_path / "a", [np.zeros(100_000, np.int64)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
