"""Cleaning of batches of texts: repair, white space, length rules (MT-NLG, section 3), masks of personal data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.pii import mask_texts
from data_prep.recipe import Clean

WHITE_SPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + (
    "\u2028\u2029\u202f\u205f\u3000"
)  # fmt: skip
"""What str.isspace and str.strip call white space."""
_IN_LINE = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in WHITE_SPACE if c != "\n") + "]"

# ftfy looks at every line with dozens of rules, none of which concerns lines of these characters alone.
_NOTHING_TO_FIX = r"\A[\t\n\x20-%'-~]*\z"
_LINE_NOT_TO_FIX = re.compile(r"[\t\x20-%'-~]*")


def clean_texts(texts: pa.Array, rules: Clean) -> tuple[pa.Array, dict[str, int]]:
    """The repaired texts [documents], and how many spans were masked by kind; large_string in and out."""
    if rules.ftfy:
        texts = _where(texts, pc.invert(pc.match_substring_regex(texts, _NOTHING_TO_FIX)), _fix_all)
    if rules.normalization != "none":
        texts = _where(texts, pc.invert(pc.string_is_ascii(texts)), lambda t: _normalized(t, rules.normalization))
    if rules.whitespace:
        texts = _tidy(texts)
    counts = {}
    for kind, instead in (("email", rules.mask_email), ("ip", rules.mask_ip)):
        if instead is not None:
            texts, counts[kind] = mask_texts(texts, kind, instead)
    return texts, counts


def drop_reasons(texts: pa.Array, rules: Clean) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Which cleaned documents are dropped, [documents] for each reason; the first that holds counts."""
    lengths = pc.utf8_length(texts).to_numpy()
    yield "empty", pc.utf8_length(pc.utf8_trim(texts, characters=WHITE_SPACE)).to_numpy() == 0
    short = lengths < rules.boilerplate_min_characters
    lower, found = pc.utf8_lower(texts.filter(pa.array(short))), np.zeros(int(short.sum()), bool)
    for word in rules.boilerplate_words:
        found |= pc.match_substring(lower, word.lower()).to_numpy(zero_copy_only=False)
    boilerplate = np.zeros(len(texts), bool)
    boilerplate[short] = found
    yield "boilerplate", boilerplate
    yield "too_short", lengths < rules.min_characters
    if rules.max_characters is not None:
        yield "too_long", lengths > rules.max_characters


def _where(texts: pa.Array, mask: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """`change` done to the texts that need it: most need nothing, and are not copied."""
    if not pc.any(mask).as_py():
        return texts
    return pc.replace_with_mask(texts, mask, change(texts.filter(mask)))


def _fix_all(texts: pa.Array) -> pa.Array:
    return pa.array([_fix(text) for text in texts.to_pylist()], pa.large_string())


def _fix(text: str) -> str:
    """ftfy.fix_text, which goes line by line too, without the lines that it would leave as they are."""
    import ftfy

    config = ftfy.TextFixerConfig(explain=False)
    lines = text.split("\n")
    if max(map(len, lines)) >= config.max_decode_length:
        return str(ftfy.fix_text(text))
    ends = ["\n"] * (len(lines) - 1) + [""]
    for i, (line, end) in enumerate(zip(lines, ends, strict=True)):
        if "<" in line:  # HTML: its entities are meant to be there, from here on
            config = config._replace(unescape_html=False)
        if _LINE_NOT_TO_FIX.fullmatch(line):
            lines[i] = line + end
        else:
            lines[i] = ftfy.fix_and_explain(line + end, config).text
    return "".join(lines)


def _normalized(texts: pa.Array, form: str) -> pa.Array:
    """Arrow's normalization knows no large strings."""
    return pc.utf8_normalize(texts.cast(pa.string()), form=form).cast(pa.large_string())


def _tidy(texts: pa.Array) -> pa.Array:
    """See Clean.whitespace."""
    texts = _where(
        texts,
        pc.match_substring(texts, "\r"),
        lambda t: pc.replace_substring(pc.replace_substring(t, "\r\n", "\n"), "\r", "\n"),
    )
    texts = _where(
        texts,
        pc.match_substring_regex(texts, _IN_LINE + r"(\n|\z)"),
        lambda t: pc.replace_substring_regex(t, f"(?m){_IN_LINE}+$", ""),
    )
    texts = _where(
        texts,
        pc.match_substring(texts, "\n\n\n\n"),
        lambda t: pc.replace_substring_regex(t, r"\n{4,}", "\n\n\n"),
    )
    return pc.utf8_trim(texts, characters=WHITE_SPACE)
