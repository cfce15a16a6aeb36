// Where runs of word bytes begin and end. A word byte is an ASCII letter, digit or underscore, or any byte of a
// non-ASCII character: those runs are looked at again, code point by code point.
#pragma once
#include <cstdint>
#include <cstring>

#include "hash.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kernel {

inline bool word_byte(uint8_t c) {
  uint8_t lower = c | 0x20;
  return c >= 0x80 || (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

// Positions of the bits of `mask`, plus `base`, at `out`; returns past the last. Eight are written at a time, so that
// the number of bits costs no mispredicted branch: `out` must have room for 7 more.
inline uint32_t* positions(uint64_t mask, uint32_t base, uint32_t* out) {
  uint32_t* end = out + __builtin_popcountll(mask);
  for (; mask; out += 8)
    for (int i = 0; i < 8; ++i) {
      out[i] = base + static_cast<uint32_t>(__builtin_ctzll(mask | 1ull << 63));
      mask &= mask - 1;
    }
  return end;
}

using Edges = uint32_t* (*)(const uint8_t*, uint32_t, uint32_t*);

// What all versions do with the mask of a block: edges are where it differs from itself shifted by one.
#define EDGES_OF(MASK)                                                    \
  uint64_t before = 0;                                                    \
  uint8_t rest[64];                                                       \
  for (uint32_t i = 0; i < n; i += 64) {                                  \
    const uint8_t* block = data + i;                                      \
    if (n - i < 64) {                                                     \
      std::memset(rest, 0, 64), std::memcpy(rest, block, n - i);          \
      block = rest;                                                       \
    }                                                                     \
    uint64_t word = MASK(block);                                          \
    out = positions(word ^ (word << 1 | before), i, out);                 \
    before = word >> 63;                                                  \
  }                                                                       \
  if (before) *out++ = n;                                                 \
  return out;

inline uint64_t mask_plain(const uint8_t* p) {
  uint64_t mask = 0;
  for (int i = 0; i < 64; ++i) mask |= static_cast<uint64_t>(word_byte(p[i])) << i;
  return mask;
}

// Starts and ends of the runs in data[0, n), in turn; returns past the last.
inline uint32_t* edges_plain(const uint8_t* data, uint32_t n, uint32_t* out) { EDGES_OF(mask_plain) }

#if defined(__x86_64__)

inline uint64_t mask_sse2(const uint8_t* p) {
  uint64_t mask = 0;
  for (int i = 0; i < 4; ++i) {
    __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i));
    __m128i letter = _mm_sub_epi8(_mm_or_si128(c, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(c, _mm_set1_epi8('0'));
    __m128i is = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter),
                              _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit));
    is = _mm_or_si128(_mm_or_si128(is, c), _mm_cmpeq_epi8(c, _mm_set1_epi8('_')));  // c's own top bit: not ASCII
    is = _mm_or_si128(is, c);
    mask |= static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(is))) << (16 * i);
  }
  return mask;
}

inline uint32_t* edges_sse2(const uint8_t* data, uint32_t n, uint32_t* out) { EDGES_OF(mask_sse2) }

LEVEL4 inline uint64_t mask_avx512(const uint8_t* p) {
  __m512i c = _mm512_loadu_si512(p);
  __m512i letter = _mm512_sub_epi8(_mm512_or_si512(c, _mm512_set1_epi8(0x20)), _mm512_set1_epi8('a'));
  __m512i digit = _mm512_sub_epi8(c, _mm512_set1_epi8('0'));
  return _mm512_cmple_epu8_mask(letter, _mm512_set1_epi8(25)) | _mm512_cmple_epu8_mask(digit, _mm512_set1_epi8(9)) |
         _mm512_cmpeq_epi8_mask(c, _mm512_set1_epi8('_')) | _mm512_movepi8_mask(c);
}

// As `positions`, by compressing the numbers 0 to 63: 16 at a time, room for 15 more.
LEVEL4 inline uint32_t* compress(uint64_t mask, uint32_t base, uint32_t* out) {
  alignas(64) static constexpr uint8_t COUNT[64] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  __m512i packed = _mm512_maskz_compress_epi8(mask, _mm512_load_si512(COUNT));
  __m512i start = _mm512_set1_epi32(static_cast<int>(base));
  int bits = __builtin_popcountll(mask);
  _mm512_storeu_si512(out, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(packed))));
  if (bits > 16) {
    _mm512_storeu_si512(out + 16, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 1))));
    if (bits > 32) {
      _mm512_storeu_si512(out + 32,
                          _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 2))));
      _mm512_storeu_si512(out + 48,
                          _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 3))));
    }
  }
  return out + bits;
}

#define positions compress
LEVEL4 inline uint32_t* edges_avx512(const uint8_t* data, uint32_t n, uint32_t* out) { EDGES_OF(mask_avx512) }
#undef positions

#endif

inline Edges choose_edges(int level) {
#if defined(__x86_64__)
  return level == 4 ? edges_avx512 : level == 3 ? edges_sse2 : edges_plain;
#else
  return level ? edges_plain : nullptr;
#endif
}
inline Edges find_edges = choose_edges(PROCESSOR);
constexpr size_t EDGE_ROOM = 64;  // what a version may write past the last edge

}  // namespace kernel
