// Code points: decoding, kind and simple case folding, from the generated table.
#pragma once
#include <cstdlib>
#include <cstring>

#include "unicode_table.h"

namespace kernel {

enum Kind : uint32_t { NONE, WORD, ALONE, SPACE };

// One entry a code point: its kind in the upper bits, what it folds to in the lower 21. Pages of code points that no
// text uses are never touched, so the 4.4 MB stay virtual.
class Unicode {
 public:
  Unicode() : entries_(static_cast<uint32_t*>(std::calloc(COUNT, sizeof(uint32_t)))) {
    if (!entries_) std::abort();
    for (const auto& run : KINDS)
      for (uint32_t p = run.first; p <= run.last; ++p) entries_[p] = run.kind << 24 | p;
    for (const auto& run : FOLDS)
      for (uint32_t p = run.first; p <= run.last; p += run.step)
        entries_[p] = (entries_[p] & 0xff000000) | static_cast<uint32_t>(static_cast<int32_t>(p) + run.distance);
  }
  Kind kind(uint32_t point) const { return static_cast<Kind>(entries_[point] >> 24); }
  uint32_t fold(uint32_t point) const {
    uint32_t folded = entries_[point] & 0xffffff;
    return folded ? folded : point;
  }

 private:
  static constexpr uint32_t COUNT = 0x110000;
  uint32_t* entries_;
};

inline const Unicode UNICODE;

// The code point at p, which moves past it. What is not UTF-8 is skipped byte by byte as U+0000, which is no word.
inline uint32_t decode(const uint8_t*& p, const uint8_t* end) {
  uint32_t first = *p++;
  if (first < 0x80) return first;
  int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first > 0xf4 || end - p < more) return 0;
  uint32_t point = first & (0x3f >> more);
  for (int i = 0; i < more; ++i) {
    if ((p[i] & 0xc0) != 0x80) return 0;
    point = point << 6 | (p[i] & 0x3f);
  }
  if (point > 0x10ffff) return 0;
  p += more;
  return point;
}

// UTF-8 of a code point at `out` (4 bytes are written); returns its length.
inline int encode(uint32_t point, uint8_t* out) {
  if (point < 0x80) return out[0] = static_cast<uint8_t>(point), 1;
  int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  for (int i = more; i > 0; --i, point >>= 6) out[i] = static_cast<uint8_t>(0x80 | (point & 0x3f));
  constexpr uint8_t LEAD[] = {0, 0xc0, 0xe0, 0xf0};
  return out[0] = static_cast<uint8_t>(LEAD[more] | point), more + 1;
}

}  // namespace kernel
