"""Words, shingles and content hashes as the kernel has them, written again in plain Python."""

from itertools import pairwise

from data_prep.dedup.kernel.unicode_table import ALONE, SPACE, WORD, fold, kind

_MASK = (1 << 64) - 1
_ODD, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB


def split(text: str) -> list[tuple[str, int, int]]:
    """(folded word, first byte, byte past the last) of each word."""
    found: list[tuple[str, int, int]] = []
    position, word, first = 0, "", 0
    for character in [*text, "\0"]:
        sort = kind(character)
        if word and sort != WORD:
            found.append((word, first, position))
            word = ""
        size = len(character.encode())
        if sort == ALONE:
            found.append((fold(character), position, position + size))
        elif sort == WORD:
            first = first if word else position
            word += fold(character)
        position += size
    return found


def normal(text: str) -> str:
    """Folded, with every run of white space as one space and none at the ends."""
    spaced = "".join(" " if kind(c) == SPACE else fold(c) for c in text)
    return " ".join(part for part in spaced.split(" ") if part)


def fold_product(a: int, b: int) -> int:
    product = a * b
    return (product ^ product >> 64) & _MASK


def word_hash(word: str) -> int:
    data, before = word.encode().replace(b"_", b"\x7f"), 0
    while len(data) > 16:
        before, data = (_halves(data[:16], before) + _ODD) & _MASK, data[16:]
    return _halves(data, before)


def _halves(data: bytes, before: int) -> int:
    low, high = (int.from_bytes(data.ljust(16, b"\0")[i : i + 8], "little") for i in (0, 8))
    return fold_product(low ^ _FIRST ^ before, high ^ _SECOND)


def character_hash(character: str) -> int:
    point = ord(character)
    return fold_product(point ^ _FIRST, (~point & _MASK) ^ _SECOND)


def shingle_hashes(units: list[int], size: int) -> list[int]:
    """Of the runs of `size` units, or of all units when there are fewer."""
    size = min(size, len(units))
    found = []
    for i in range(len(units) - size + 1 if units else 0):
        total = 0
        for unit in units[i : i + size]:
            total = (total * _ODD + unit) & _MASK
        found.append(total)
    return found


def murmur3(data: bytes) -> tuple[int, int]:
    """MurmurHash3 x64 128 with seed 0."""
    c1, c2, h1, h2 = 0x87C37B91114253D5, 0x4CF5AD432745937F, 0, 0

    def rotate(x: int, r: int) -> int:
        x &= _MASK
        return (x << r | x >> (64 - r)) & _MASK

    def mix(k: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            k = ((k ^ k >> 33) * factor) & _MASK
        return k ^ k >> 33

    whole = len(data) // 16 * 16
    for start, end in pairwise(range(0, whole + 1, 16)):
        k1, k2 = (int.from_bytes(data[i : i + 8], "little") for i in (start, end - 8))
        h1 = ((rotate(h1 ^ rotate(k1 * c1, 31) * c2 & _MASK, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 = ((rotate(h2 ^ rotate(k2 * c2, 33) * c1 & _MASK, 31) + h1) * 5 + 0x38495AB5) & _MASK
    tail = data[whole:].ljust(16, b"\0")
    h2 ^= rotate(int.from_bytes(tail[8:], "little") * c2, 33) * c1 & _MASK
    h1 ^= rotate(int.from_bytes(tail[:8], "little") * c1, 31) * c2 & _MASK
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = mix(h1), mix(h2)
    h1 = (h1 + h2) & _MASK
    return h1, (h2 + h1) & _MASK
