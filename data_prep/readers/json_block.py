"""A block of JSON lines to columns at once, by Arrow's parser; None where only a line-by-line reading is exact.

Arrow takes the types of fields from a schema here, learnt from sampled lines; a block with other fields or types, or
with a line that is not one object, is not parsed. Of attributes, values that Arrow can't tell apart from others that
Python's json would write differently (null and missing, 1 and 1.0 in one column) are written from their own line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

_SAMPLED_LINES = 8
_MAX_FIELDS = 64
_NEWLINE, _RETURN, _OPEN, _CLOSE = b"\n\r{}"
_PLAIN = r"\A[ !#-\[\]-~]*\z"
"""Strings that JSON writes as they are, between quotes."""


class Columns(NamedTuple):
    """What the lines of a block hold; [lines] each. `texts` has no null."""

    texts: pa.Array
    urls: pa.Array
    attributes: pa.Array


class BlockParser:
    """Parses blocks of one file, whose lines have mostly the same fields."""

    def __init__(self, key: str):
        self.key = key
        self.types: dict[str, pa.DataType] | None = {key: pa.string()}
        """Learnt so far; None when there are too many."""

    def parse(self, block: bytes) -> Columns | None:
        """Columns of a block of whole lines without blank ones, or None."""
        rows = _object_lines(block)
        types = self._learn(block) if rows else None
        if types is None:
            return None
        schema = pa.schema(list(types.items()))
        try:
            table = pj.read_json(
                pa.BufferReader(block),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                # Not "infer": strings that look like times would become times, and deep nesting overflows the stack.
                parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
            )
            batch = table.combine_chunks().to_batches()[0]
            batch.validate(full=True)  # of strings, that they are UTF-8
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        texts = batch.column(self.key)
        if len(texts) != rows or texts.null_count:
            return None
        return Columns(texts.cast(pa.large_string()), *self._rest(batch, block))

    def _learn(self, block: bytes) -> dict[str, pa.DataType] | None:
        """The fields known so far and those of a few lines, evenly spread; None when they are too many."""
        if self.types is None:
            return None
        step = max(1, len(block) // _SAMPLED_LINES)
        for start in range(0, len(block), step):
            begin = block.rfind(b"\n", 0, start + 1) + 1
            end = block.find(b"\n", begin)
            try:
                row = json.loads(block[begin : end if end >= 0 else len(block)])
            except (ValueError, RecursionError):
                continue
            known = pa.struct(list(self.types.items()))
            try:
                learnt = _common(known, _type_of(row))
            except (RecursionError, UnicodeEncodeError):
                continue
            if not pa.types.is_struct(learnt):
                continue
            self.types = {field.name: field.type for field in learnt} | {self.key: pa.string()}
            if _fields(learnt) > _MAX_FIELDS:
                self.types = None
                return None
        return self.types

    def _rest(self, batch: pa.RecordBatch, block: bytes) -> tuple[pa.Array, pa.Array]:
        from data_prep.readers.jsonl import split_row

        names = [name for name in batch.schema.names if name != self.key]
        has_null = any(_may_lack(batch.column(name)) for name in names) and _has_null(block)
        urls = pa.nulls(batch.num_rows, pa.string())
        if "url" in names and pa.types.is_string(batch.schema.field("url").type):
            urls = batch.column("url")
            names.remove("url")
        joined = _members(names, [batch.column(name) for name in names], batch.num_rows, has_null)
        unsure = joined.is_null()
        if has_null and urls.null_count and len(urls) and "url" in batch.schema.names:
            unsure = pc.or_(unsure, urls.is_null())
        attributes = pc.if_else(pc.equal(joined, ""), None, _wrapped(joined))
        if not pc.any(unsure).as_py():
            return urls, attributes
        lines, exact = block.split(b"\n"), []
        for i in pc.indices_nonzero(unsure).to_pylist():
            row = json.loads(lines[i])
            row.pop(self.key)
            exact.append(split_row(row))
        columns = [pa.array(column, pa.string()) for column in zip(*exact, strict=True)]
        return pc.replace_with_mask(urls, unsure, columns[0]), pc.replace_with_mask(attributes, unsure, columns[1])


def _object_lines(block: bytes) -> int:
    """The number of lines, or 0 unless each begins and ends as an object does: no value goes on in the next."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if len(data) < 2 or (ends - starts).min() < 2 or (data[starts] != _OPEN).any():
        return 0
    last = np.where(data[ends - 1] == _RETURN, data[ends - 2], data[ends - 1])
    return len(ends) if (last == _CLOSE).all() else 0


def _may_lack(column: pa.Array) -> bool:
    """Whether a null is in it, or deeper in it."""
    kind = column.type
    if pa.types.is_struct(kind):
        return bool(column.null_count) or any(_may_lack(column.field(i)) for i in range(kind.num_fields))
    return bool(column.null_count) or (pa.types.is_list(kind) and _may_lack(column.values))


def _has_null(block: bytes) -> bool:
    """Whether null may stand as a value somewhere, and not only in strings."""
    at = block.find(b"null")
    while at >= 0:
        if block[max(at - 16, 0) : at].rstrip()[-1:] in b":,[":  # or nothing but white space
            return True
        at = block.find(b"null", at + 4)
    return False


def _type_of(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, int | float):
        return pa.int64() if isinstance(value, int) and abs(value) < 1 << 63 else pa.float64()
    if isinstance(value, dict):
        return pa.struct([(name, _type_of(item)) for name, item in value.items()])
    if isinstance(value, list):
        item = pa.null()
        for each in value[:8]:
            item = _common(item, _type_of(each))
        return pa.list_(item)
    return pa.null()


def _common(one: pa.DataType, two: pa.DataType) -> pa.DataType:
    """A type for values of both; the first where there is none, and the block will not be parsed."""
    if pa.types.is_null(one):
        return two
    if pa.types.is_struct(one) and pa.types.is_struct(two):
        fields = {field.name: field.type for field in one}
        for field in two:
            fields[field.name] = _common(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items()))
    if pa.types.is_list(one) and pa.types.is_list(two):
        return pa.list_(_common(one.value_type, two.value_type))
    return pa.float64() if {one, two} == {pa.int64(), pa.float64()} else one


def _fields(kind: pa.DataType) -> int:
    if pa.types.is_list(kind):
        return _fields(kind.value_type)
    return sum(1 + _fields(field.type) for field in kind) if pa.types.is_struct(kind) else 0


def _members(names: Sequence[str], columns: Sequence[pa.Array], rows: int, has_null: bool) -> pa.Array:
    """`"a": 1, "b": 2` of every row, names sorted; null where it can't be told. Missing values are left out."""
    pieces = []
    for name, column in sorted(zip(names, columns, strict=True)):
        piece = pc.binary_join_element_wise(f", {json.dumps(name)}: ", encode(column, has_null), "")
        pieces.append(piece if has_null else pc.if_else(column.is_null(), "", piece))
    if not pieces:
        return pa.repeat("", rows)
    return pc.utf8_slice_codeunits(pc.binary_join_element_wise(*pieces, ""), 2)


def _wrapped(values: pa.Array, before: str = "{", after: str = "}") -> pa.Array:
    return pc.binary_join_element_wise(before, values, after, "")


def encode(values: pa.Array, has_null: bool) -> pa.Array:  # noqa: PLR0911 one return a type
    """Each value as Python's json writes it, keys sorted; null for null and for what can't be told from Arrow's value.

    `has_null`: nulls in `values` may stand for a written null; without it they stand for missing members.
    """
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _encode_strings(values.cast(pa.string()))
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "true", "false")
    if pa.types.is_integer(kind):
        return values.cast(pa.string())
    if pa.types.is_float64(kind):
        return pa.array([_float(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_struct(kind) and kind.num_fields:
        names = [kind.field(i).name for i in range(kind.num_fields)]
        members = _members(names, [values.field(i) for i in range(len(names))], len(values), has_null)
        return pc.if_else(values.is_null(), None, _wrapped(members))
    if pa.types.is_list(kind):
        items = encode(values.values, has_null)
        whole = pa.ListArray.from_arrays(values.offsets, items)
        return pc.if_else(values.is_null(), None, _wrapped(pc.binary_join(whole, ", "), "[", "]"))
    return pa.nulls(len(values), pa.string())


def _encode_strings(values: pa.Array) -> pa.Array:
    quoted = _wrapped(values, '"', '"')
    special = pc.invert(pc.match_substring_regex(values, _PLAIN))
    if not pc.any(special).as_py():
        return quoted
    special = pc.fill_null(special, False)
    exact = pa.array([json.dumps(text) for text in values.filter(special).to_pylist()], pa.string())
    return pc.replace_with_mask(quoted, special, exact)


def _float(value: float | None) -> str | None:
    """A whole number may have been written as an integer."""
    return None if value is None or not math.isfinite(value) or value.is_integer() else json.dumps(value)
