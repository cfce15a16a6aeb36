// A document as a row of hashes of its units: its words, or the characters of its normalised text.
#pragma once
#include <algorithm>
#include <vector>

#include "hash.h"
#include "scan.h"
#include "unicode.h"

namespace kernel {

struct Span {
  uint32_t start, end;  // bytes from the document's start
};

// Room that is kept from document to document.
struct Scratch {
  std::vector<uint32_t> edges;
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> units;  // the first `count` are the document's
  size_t count = 0;
  std::vector<Span> spans;

  void make_room(size_t more) {
    if (units.size() < count + more) units.resize(2 * (count + more));
  }
};

constexpr size_t SEGMENT = 1 << 16;  // bytes of a document whose edges are held at once

// Bytes of a word's first and second half, by its length.
struct HalfMasks {
  uint64_t low[17], high[17];
  constexpr HalfMasks() : low(), high() {
    for (int n = 0; n <= 16; ++n) {
      low[n] = n >= 8 ? ~0ull : (1ull << (8 * n)) - 1;
      high[n] = n <= 8 ? 0 : n == 16 ? ~0ull : (1ull << (8 * (n - 8))) - 1;
    }
  }
};
inline constexpr HalfMasks HALVES;

// '_' would become this by what lower-cases an ASCII word byte below: it is no word byte itself.
constexpr uint8_t UNDERSCORE = '_' | 0x20;

// The words of a run that has non-ASCII characters, is long, or lies at the end of the buffer.
template <bool SPANS>
void words_of_run(const uint8_t* document, uint32_t start, uint32_t end, Scratch& s) {
  const uint8_t *p = document + start, *stop = document + end;
  uint8_t character[4];
  uint32_t first = start;
  s.bytes.clear(), s.make_room(end - start);
  auto emit = [&](uint32_t last) {
    if (s.bytes.empty()) return;
    s.units[s.count++] = hash_bytes(s.bytes.data(), s.bytes.size());
    if (SPANS) s.spans.push_back({first, last});
    s.bytes.clear();
  };
  while (p < stop) {
    auto here = static_cast<uint32_t>(p - document);
    uint32_t point = decode(p, stop);
    Kind kind = UNICODE.kind(point);
    if (kind != WORD) emit(here);
    if (kind != WORD && kind != ALONE) continue;
    if (s.bytes.empty()) first = here;
    int n = encode(UNICODE.fold(point), character);
    s.bytes.insert(s.bytes.end(), character, character + n);
    if (n == 1 && character[0] == '_') s.bytes.back() = UNDERSCORE;
    if (kind == ALONE) emit(static_cast<uint32_t>(p - document));
  }
  emit(end);
}

// Hashes of the words of document[0, n) into s.units, and where they are into s.spans. `readable` is where the buffer
// ends: words may be loaded 16 bytes at a time up to there.
template <bool SPANS>
void words(const uint8_t* document, size_t n, const uint8_t* readable, Scratch& s) {
  s.count = 0, s.spans.clear();
  for (size_t from = 0, to; from < n; from = to) {
    to = std::min(n, from + SEGMENT);
    if (to < n) {  // at a byte that is no word's, the last in the segment or, if there is none, the first after it
      size_t cut = to;
      while (cut > from && word_byte(document[cut])) --cut;
      if (cut == from)
        for (cut = to; cut < n && word_byte(document[cut]);) ++cut;
      to = cut;
    }
    if (s.edges.size() < to - from + EDGE_ROOM) s.edges.resize(std::max(SEGMENT, to - from) + EDGE_ROOM);
    const uint32_t* end = find_edges(document + from, static_cast<uint32_t>(to - from), s.edges.data());
    auto left = static_cast<size_t>(end - s.edges.data()) / 2;
    auto base = static_cast<uint32_t>(from);
    s.make_room(left);
    uint64_t* out = s.units.data() + s.count;
    for (const uint32_t* edge = s.edges.data(); edge < end; edge += 2, --left) {
      const uint8_t* p = document + from + edge[0];
      uint32_t length = edge[1] - edge[0];
      if (length <= 16 && readable - p >= 16) {
        uint64_t low = load(p) & HALVES.low[length], high = load(p + 8) & HALVES.high[length];
        if (!((low | high) & 0x8080808080808080)) {
          low |= (low & 0x4040404040404040) >> 1, high |= (high & 0x4040404040404040) >> 1;
          *out++ = hash_halves(low, high);
          if (SPANS) s.spans.push_back({base + edge[0], base + edge[1]});
          continue;
        }
      }
      s.count = static_cast<size_t>(out - s.units.data());
      words_of_run<SPANS>(document, base + edge[0], base + edge[1], s);
      s.make_room(left);
      out = s.units.data() + s.count;
    }
    s.count = static_cast<size_t>(out - s.units.data());
  }
}

// Copies BLOCK bytes, ASCII letters lower-cased and white space as spaces; false when that is not their normal form: they
// are not all ASCII, or white space follows white space. p[BLOCK] must be readable.
constexpr ptrdiff_t BLOCK = 64;

ALWAYS_INLINE bool normal_block(const uint8_t* p, uint8_t* out) {
  auto space = [](uint8_t c) -> uint8_t {
    return static_cast<uint8_t>(-((c == ' ') | (static_cast<uint8_t>(c - 9) < 5) | (static_cast<uint8_t>(c - 28) < 4)));
  };
  uint8_t bad = 0;
  for (int i = 0; i < BLOCK; ++i) {
    uint8_t c = p[i], next = p[i + 1], here = space(c);
    bad |= c | (here & (space(next) | next));
    auto upper = static_cast<uint8_t>(-(static_cast<uint8_t>(c - 'A') < 26)) & 0x20;
    out[i] = static_cast<uint8_t>(here ? ' ' : c | upper);
  }
  return !(bad & 0x80);
}

// The text folded, with every run of white space as one space and none at the ends, into s.bytes; returns its length.
template <class Block>
ALWAYS_INLINE size_t normalise_by(const uint8_t* p, size_t n, Scratch& s, Block copy) {
  if (s.bytes.size() < 2 * n + 2 * BLOCK) s.bytes.resize(2 * n + 2 * BLOCK);  // no fold is longer than twice its source
  const uint8_t* end = p + n;
  uint8_t *begin = s.bytes.data(), *to = begin;
  bool space = false;
  while (p < end) {
    if (!space && to > begin)
      while (end - p > BLOCK && copy(p, to)) p += BLOCK, to += BLOCK;
    if (!space && to > begin && end - p <= BLOCK) {  // the rest, with something after it that is no space
      uint8_t rest[BLOCK + 1];
      std::memset(rest, 'x', sizeof rest), std::memcpy(rest, p, static_cast<size_t>(end - p));
      if (copy(rest, to)) {
        to += end - p;
        break;
      }
    }
    const uint8_t* stop = p + (to > begin ? std::min<ptrdiff_t>(BLOCK / 2, end - p) : 1);
    while (p < stop) {
      uint32_t point = decode(p, end);
      if (UNICODE.kind(point) == SPACE) {
        space = to > begin && to[-1] != ' ';
        continue;
      }
      if (space) *to++ = ' ', space = false;
      to += encode(UNICODE.fold(point), to);
    }
  }
  return static_cast<size_t>(to - begin) - (to > begin && to[-1] == ' ');
}

inline size_t normalise_plain(const uint8_t* p, size_t n, Scratch& s) {
  return normalise_by(p, n, s, [](const uint8_t* from, uint8_t* to) { return normal_block(from, to); });
}

#if defined(__x86_64__)
LEVEL3 inline size_t normalise_avx2(const uint8_t* p, size_t n, Scratch& s) {
  return normalise_by(p, n, s, [](const uint8_t* from, uint8_t* to) LEVEL3 { return normal_block(from, to); });
}

LEVEL4 inline bool normal_block_avx512(const uint8_t* p, uint8_t* out) {
  __m512i c = _mm512_loadu_si512(p);
  __mmask64 control = _mm512_cmple_epu8_mask(_mm512_sub_epi8(c, _mm512_set1_epi8(9)), _mm512_set1_epi8(4)) |
                      _mm512_cmple_epu8_mask(_mm512_sub_epi8(c, _mm512_set1_epi8(28)), _mm512_set1_epi8(4));
  __mmask64 upper = _mm512_cmple_epu8_mask(_mm512_sub_epi8(c, _mm512_set1_epi8('A')), _mm512_set1_epi8(25));
  uint8_t after = p[BLOCK];  // a space, or what might be one
  uint64_t next = control >> 1 | static_cast<uint64_t>(after >= 0x80 || UNICODE.kind(after) == SPACE) << 63;
  c = _mm512_mask_blend_epi8(control, c, _mm512_set1_epi8(' '));
  c = _mm512_mask_add_epi8(c, upper, c, _mm512_set1_epi8(0x20));
  _mm512_storeu_si512(out, c);
  return !(_mm512_movepi8_mask(c) | (control & next));
}

LEVEL4 inline size_t normalise_avx512(const uint8_t* p, size_t n, Scratch& s) {
  return normalise_by(p, n, s, [](const uint8_t* from, uint8_t* to) LEVEL4 { return normal_block_avx512(from, to); });
}
#endif

inline auto choose_normalise(int level) {
#if defined(__x86_64__)
  return level == 4 ? normalise_avx512 : level == 3 ? normalise_avx2 : normalise_plain;
#else
  return level ? normalise_plain : nullptr;
#endif
}
inline auto normalise = choose_normalise(PROCESSOR);

// Hashes of the characters of the normalised text into s.units.
inline void characters(const uint8_t* document, size_t n, Scratch& s) {
  size_t length = normalise(document, n, s);
  s.count = 0, s.make_room(length);
  const uint8_t *p = s.bytes.data(), *end = p + length;
  while (p < end) {
    uint64_t point = decode(p, end);
    s.units[s.count++] = hash_halves(point, ~point);
  }
}

// 128 bits that are equal for texts that differ in case and white space only.
inline void content_hash(const uint8_t* document, size_t n, Scratch& s, uint64_t out[2]) {
  size_t length = normalise(document, n, s);
  Murmur::hash(s.bytes.data(), length, out);
}

}  // namespace kernel
