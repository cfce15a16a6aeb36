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

constexpr size_t LANES = 64;  // permutations whose minima stay in registers

typedef uint32_t Lanes __attribute__((vector_size(64)));

ALWAYS_INLINE void lower(Lanes& least, Lanes a, Lanes b, Lanes h) {
  Lanes value = a * h + b;
  least = value < least ? value : least;
}

// least[p] = min over h of a[p]·h + b[p] mod 2³², for `permutations`, a multiple of LANES.
ALWAYS_INLINE void minima_body(const uint32_t* h, size_t count, const uint32_t* a, const uint32_t* b, size_t permutations,
                          uint32_t* least) {
  for (size_t p = 0; p < permutations; p += LANES) {
    Lanes A[4], B[4];
    std::memcpy(A, a + p, sizeof A), std::memcpy(B, b + p, sizeof B);
    Lanes s0 = Lanes{} - 1, s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < count; ++i) {
      Lanes x = Lanes{} + h[i];
      lower(s0, A[0], B[0], x), lower(s1, A[1], B[1], x), lower(s2, A[2], B[2], x), lower(s3, A[3], B[3], x);
    }
    std::memcpy(least + p, &s0, 64), std::memcpy(least + p + 16, &s1, 64);
    std::memcpy(least + p + 32, &s2, 64), std::memcpy(least + p + 48, &s3, 64);
  }
}
VERSIONS(minima,
         (const uint32_t* h, size_t count, const uint32_t* a, const uint32_t* b, size_t permutations, uint32_t* least),
         (h, count, a, b, permutations, least))

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
  size_t count = shingle_count(s.units.size(), size);
  if (s.shingles.size() < count) s.shingles.resize(count);
  combine(s.units.data(), count, std::min(size, s.units.size()), s.shingles.data());
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
