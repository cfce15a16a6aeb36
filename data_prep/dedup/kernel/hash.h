// Hashes: of words, of runs of units, of keys; and MurmurHash3 for whole contents.
#pragma once
#include <cstdint>
#include <cstring>

namespace kernel {

#define ALWAYS_INLINE inline __attribute__((always_inline))  // GCC and Clang, whose vector types are used as well

// One build for every x86-64: VERSIONS(name, parameters, arguments) makes `name` of `name_body`, compiled for each of
// three levels, of which the highest that the processor has is chosen when the module is loaded; choose_name(level)
// chooses another, so that a test can compare them.
#if defined(__x86_64__)
#if defined(__clang__)
#define LEVEL4 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi,bmi2,popcnt")))
#else
#define LEVEL4 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi,bmi2,popcnt,prefer-vector-width=512")))
#endif
#define LEVEL3 __attribute__((target("avx2,bmi,bmi2,popcnt")))

inline int level() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) return 1;
  return __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2")
             ? 4
             : 3;
}

inline const int PROCESSOR = level();

#define VERSIONS(name, parameters, arguments)                            \
  LEVEL4 inline auto name##_4 parameters { return name##_body arguments; } \
  LEVEL3 inline auto name##_3 parameters { return name##_body arguments; } \
  inline auto name##_1 parameters { return name##_body arguments; }        \
  inline auto choose_##name(int level) { return level == 4 ? name##_4 : level == 3 ? name##_3 : name##_1; } \
  inline auto name = choose_##name(PROCESSOR);
#else
inline const int PROCESSOR = 1;

#define VERSIONS(name, parameters, arguments) \
  inline auto name##_1 parameters { return name##_body arguments; } \
  inline auto choose_##name(int) { return name##_1; }               \
  inline auto name = choose_##name(1);
#endif

constexpr uint64_t ODD = 0x9e3779b97f4a7c15, FIRST = 0xa0761d6478bd642f, SECOND = 0xe7037ed1a0b428db;

ALWAYS_INLINE uint64_t load(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}

// 128-bit product, folded: every bit of both depends on all bits of both.
ALWAYS_INLINE uint64_t fold_product(uint64_t a, uint64_t b) {
  auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A word of up to 16 bytes, zero-padded to two halves (no word holds a zero byte, so its length need not count).
ALWAYS_INLINE uint64_t hash_halves(uint64_t low, uint64_t high, uint64_t before = 0) {
  return fold_product(low ^ FIRST ^ before, high ^ SECOND);
}

// Any word: the same value as hash_halves up to 16 bytes.
inline uint64_t hash_bytes(const uint8_t* p, size_t n) {
  uint64_t before = 0;
  for (; n > 16; p += 16, n -= 16) before = hash_halves(load(p), load(p + 8), before) + ODD;
  uint8_t padded[16] = {};
  std::memcpy(padded, p, n);
  return hash_halves(load(padded), load(padded + 8), before);
}

// MurmurHash3 x64 128 (Appleby; public domain), seed 0.
struct Murmur {
  static uint64_t rotate(uint64_t x, int r) { return x << r | x >> (64 - r); }
  static uint64_t mix(uint64_t k) {
    k ^= k >> 33, k *= 0xff51afd7ed558ccd, k ^= k >> 33, k *= 0xc4ceb9fe1a85ec53;
    return k ^ k >> 33;
  }
  static void hash(const uint8_t* p, size_t length, uint64_t out[2]) {
    constexpr uint64_t C1 = 0x87c37b91114253d5, C2 = 0x4cf5ad432745937f;
    uint64_t h1 = 0, h2 = 0;
    size_t n = length;
    for (; n >= 16; p += 16, n -= 16) {
      h1 ^= rotate(load(p) * C1, 31) * C2, h1 = (rotate(h1, 27) + h2) * 5 + 0x52dce729;
      h2 ^= rotate(load(p + 8) * C2, 33) * C1, h2 = (rotate(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    uint8_t tail[16] = {};
    std::memcpy(tail, p, n);
    h2 ^= rotate(load(tail + 8) * C2, 33) * C1;  // adds nothing where the tail is shorter: 0 stays 0
    h1 ^= rotate(load(tail) * C1, 31) * C2;
    h1 ^= length, h2 ^= length, h1 += h2, h2 += h1;
    h1 = mix(h1), h2 = mix(h2), h1 += h2, h2 += h1;
    out[0] = h1, out[1] = h2;
  }
};

}  // namespace kernel
