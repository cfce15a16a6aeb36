// Runs of units to shingle hashes to min-hashes, as datasketch's scheme affine32 has them.
#pragma once
#include <algorithm>
#include <vector>

#include "units.h"

namespace kernel {

// Number of shingles of `size` units in a document of `units`: a document of fewer units is one shingle.
inline size_t shingle_count(size_t units, size_t size) { return units ? units - std::min(size, units) + 1 : 0; }

// 64-bit hashes of the runs of `size` units: a polynomial in ODD, so that the order counts. Blocks of 64, in which the
// compiler has eight or four at a time.
ALWAYS_INLINE void combine_body(const uint64_t* units, size_t count, size_t size, uint64_t* out) {
  for (size_t from = 0; from < count; from += 64) {
    size_t block = std::min<size_t>(64, count - from);
    uint64_t total[64] = {};
    for (size_t j = 0; j < size; ++j)
      for (size_t i = 0; i < block; ++i) total[i] = total[i] * ODD + units[from + i + j];
    for (size_t i = 0; i < block; ++i) out[from + i] = total[i];
  }
}
VERSIONS(combine, (const uint64_t* units, size_t count, size_t size, uint64_t* out), (units, count, size, out))

// The upper 32 bits, then MurmurHash3's finalizer, which is what datasketch does to a hash first.
ALWAYS_INLINE void premix_body(const uint64_t* shingles, size_t count, uint32_t* out) {
  for (size_t i = 0; i < count; ++i) {
    auto h = static_cast<uint32_t>(shingles[i] >> 32);
    h ^= h >> 16, h *= 0x85ebca6b, h ^= h >> 13, h *= 0xc2b2ae35;
    out[i] = h ^ h >> 16;
  }
}
VERSIONS(premix, (const uint64_t* shingles, size_t count, uint32_t* out), (shingles, count, out))

constexpr size_t LANES = 64;  // permutations are padded to a multiple

// least[p] = min over h of a[p]·h + b[p] mod 2³². Vector is as wide as the processor's: four of its minima stay in
// registers (a wider one would be taken apart, number by number).
template <class Vector>
ALWAYS_INLINE void minima_by(const uint32_t* h, size_t count, const uint32_t* a, const uint32_t* b, size_t permutations,
                             uint32_t* least) {
  constexpr size_t WIDTH = sizeof(Vector) / sizeof(uint32_t);
  for (size_t p = 0; p < permutations; p += 4 * WIDTH) {
    Vector A[4], B[4], s0 = Vector{} - 1, s1 = s0, s2 = s0, s3 = s0;
    std::memcpy(A, a + p, sizeof A), std::memcpy(B, b + p, sizeof B);
    for (size_t i = 0; i < count; ++i) {
      Vector x = Vector{} + h[i], v0 = A[0] * x + B[0], v1 = A[1] * x + B[1], v2 = A[2] * x + B[2], v3 = A[3] * x + B[3];
      s0 = v0 < s0 ? v0 : s0, s1 = v1 < s1 ? v1 : s1, s2 = v2 < s2 ? v2 : s2, s3 = v3 < s3 ? v3 : s3;
    }
    std::memcpy(least + p, &s0, sizeof s0), std::memcpy(least + p + WIDTH, &s1, sizeof s1);
    std::memcpy(least + p + 2 * WIDTH, &s2, sizeof s2), std::memcpy(least + p + 3 * WIDTH, &s3, sizeof s3);
  }
}

typedef uint32_t Lanes4 __attribute__((vector_size(16)));
typedef uint32_t Lanes8 __attribute__((vector_size(32)));
typedef uint32_t Lanes16 __attribute__((vector_size(64)));
using Minima = void (*)(const uint32_t*, size_t, const uint32_t*, const uint32_t*, size_t, uint32_t*);

#define MINIMA(name, Vector)                                                                                   \
  inline void name(const uint32_t* h, size_t n, const uint32_t* a, const uint32_t* b, size_t p, uint32_t* out) { \
    minima_by<Vector>(h, n, a, b, p, out);                                                                     \
  }
MINIMA(minima_plain, Lanes4)
#if defined(__x86_64__)
LEVEL3 MINIMA(minima_avx2, Lanes8)
LEVEL4 MINIMA(minima_avx512, Lanes16)
#endif

inline Minima choose_minima(int level) {
#if defined(__x86_64__)
  return level == 4 ? minima_avx512 : level == 3 ? minima_avx2 : minima_plain;
#else
  return level ? minima_plain : nullptr;
#endif
}
inline Minima minima = choose_minima(PROCESSOR);

// What a signature is made with.
struct Scheme {
  bool characters;
  size_t size, permutations;
  std::vector<uint32_t> a, b;  // padded to a multiple of LANES
};

struct SignScratch : Scratch {
  std::vector<uint64_t> shingles;
  std::vector<uint32_t> hashes, least;
};

inline size_t shingle(const uint8_t* document, size_t n, const uint8_t* readable, bool by_character, size_t size,
                      SignScratch& s) {
  if (by_character)
    characters(document, n, s);
  else
    words<false>(document, n, readable, s);
  size_t count = shingle_count(s.count, size);
  if (s.shingles.size() < count) s.shingles.resize(count);
  combine(s.units.data(), count, std::min(size, s.count), s.shingles.data());
  return count;
}

// All ones for a document without units.
inline void sign(const uint8_t* document, size_t n, const uint8_t* readable, const Scheme& scheme, SignScratch& s,
                 uint32_t* signature) {
  size_t count = shingle(document, n, readable, scheme.characters, scheme.size, s);
  if (s.hashes.size() < count) s.hashes.resize(count);
  s.least.resize(scheme.a.size());
  premix(s.shingles.data(), count, s.hashes.data());
  minima(s.hashes.data(), count, scheme.a.data(), scheme.b.data(), scheme.a.size(), s.least.data());
  std::memcpy(signature, s.least.data(), scheme.permutations * sizeof(uint32_t));
}

}  // namespace kernel
