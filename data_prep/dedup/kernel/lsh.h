// Keys of bands, and Jaccard similarity of sets of shingles.
#pragma once
#include <vector>

#include "hash.h"

namespace kernel {

inline uint64_t band_key(const uint32_t* row, size_t rows) {
  uint64_t key = rows;
  for (size_t i = 0; i < rows; ++i) key = fold_product(key ^ row[i] ^ FIRST, ODD) + row[i];
  return key;
}

struct Set {
  const uint64_t *begin, *end;  // hashes, in any order, repeats allowed
};

// Open addressing at no more than half full; entries of an earlier pair are told by their stamp.
class JaccardTable {
 public:
  // 0 when either is empty.
  double jaccard(Set a, Set b) {
    size_t total = static_cast<size_t>((a.end - a.begin) + (b.end - b.begin)), size = 1024;
    while (size < 2 * total) size *= 2;
    if (size > entries_.size()) entries_.assign(size, {}), stamp_ = 0;
    shift_ = 64 - __builtin_ctzll(entries_.size());
    stamp_ += 3;
    size_t distinct = 0, common = 0;
    for (const uint64_t* h = a.begin; h < a.end; ++h) {
      Entry& entry = find(*h);
      distinct += entry.stamp != stamp_;
      entry = {*h, stamp_};
    }
    for (const uint64_t* h = b.begin; h < b.end; ++h) {
      Entry& entry = find(*h);
      if (entry.stamp == stamp_) ++common, entry.stamp = stamp_ + 1;
      else if (entry.stamp < stamp_) ++distinct, entry = {*h, stamp_ + 1};
    }
    return common ? static_cast<double>(common) / static_cast<double>(distinct) : 0.0;
  }

 private:
  struct Entry {
    uint64_t hash, stamp;  // the pair's stamp: of the first set; one more: seen in the second
  };
  Entry& find(uint64_t hash) {
    size_t mask = entries_.size() - 1;
    for (size_t i = hash * ODD >> shift_;; i = (i + 1) & mask)
      if (entries_[i].stamp < stamp_ || entries_[i].hash == hash) return entries_[i];
  }
  std::vector<Entry> entries_;
  uint64_t stamp_ = 0;
  int shift_ = 0;
};

}  // namespace kernel
