// Candidates by equal band keys, and Jaccard similarity of sets of shingles.
#pragma once
#include <algorithm>
#include <vector>

#include "hash.h"

namespace kernel {

inline uint64_t band_key(const uint32_t* row, size_t rows) {
  uint64_t key = rows;
  for (size_t i = 0; i < rows; ++i) key = fold_product(key ^ row[i] ^ FIRST, ODD) + row[i];
  return key;
}

// Groups of two or more equal keys among `count`, each group's positions ascending: each(first, last). Keys are dealt
// out by their lower bits to parts that stay in the cache, so the cost of a key does not grow with their number.
template <class Key, class Each>
void for_groups(const Key* keys, size_t count, Each each) {
  constexpr size_t PART = 1024;
  constexpr uint32_t NOBODY = ~0u;
  size_t parts = 1;
  while (parts * PART < count && parts < size_t{1} << 20) parts *= 2;
  std::vector<uint32_t> starts(parts + 1), order(count);
  for (size_t i = 0; i < count; ++i) ++starts[(keys[i].low() & (parts - 1)) + 1];
  for (size_t p = 0; p < parts; ++p) starts[p + 1] += starts[p];
  {
    std::vector<uint32_t> next(starts.begin(), starts.end() - 1);
    for (size_t i = 0; i < count; ++i) order[next[keys[i].low() & (parts - 1)]++] = static_cast<uint32_t>(i);
  }
  struct Link {
    uint32_t next, last, size;
  };
  std::vector<uint32_t> table, group;
  std::vector<Link> links;
  for (size_t p = 0; p < parts; ++p) {
    const uint32_t* here = order.data() + starts[p];
    uint32_t n = starts[p + 1] - starts[p];
    int bits = 4;
    while (size_t{1} << bits < 2 * size_t{n}) ++bits;
    table.assign(size_t{1} << bits, NOBODY), links.assign(n, {NOBODY, 0, 1});
    size_t mask = table.size() - 1;
    for (uint32_t i = 0; i < n; ++i) {
      const Key& key = keys[here[i]];
      for (size_t slot = key.low() * ODD >> (64 - bits);; slot = (slot + 1) & mask) {
        uint32_t head = table[slot];
        if (head == NOBODY) {
          table[slot] = links[i].last = i;
          break;
        }
        if (keys[here[head]] == key) {
          links[links[head].last].next = i, links[head].last = i, ++links[head].size, links[i].size = 0;
          break;
        }
      }
    }
    for (uint32_t i = 0; i < n; ++i) {
      if (links[i].size < 2) continue;
      group.clear();
      for (uint32_t j = i; j != NOBODY; j = links[j].next) group.push_back(here[j]);
      each(group.data(), group.data() + group.size());
    }
  }
}

struct BandKey {
  uint64_t value;
  uint64_t low() const { return value; }
  bool operator==(const BandKey& other) const { return value == other.value; }
};

struct ContentKey {
  uint64_t first, second;
  uint64_t low() const { return first; }
  bool operator==(const ContentKey& other) const { return first == other.first && second == other.second; }
};

ALWAYS_INLINE uint32_t agreement_body(const uint32_t* a, const uint32_t* b, size_t permutations) {
  uint32_t equal = 0;
  for (size_t i = 0; i < permutations; ++i) equal += a[i] == b[i];
  return equal;
}
VERSIONS(agreement, (const uint32_t* a, const uint32_t* b, size_t permutations), (a, b, permutations))

struct Candidate {
  uint32_t first, second, agreement;  // first < second
};

// Which pairs of a group are looked at, and how many equal min-hashes make a candidate or leave no doubt.
struct PairRules {
  uint32_t least, sure;
  size_t all_pairs = 64;  // in a group up to this size all; in a larger one each document against a few anchors
  size_t anchors = 16;
};

// Candidates of one band. signature(document) gives its min-hashes; `documents` are ascending.
template <class Signature>
void candidates(const BandKey* keys, const uint32_t* documents, size_t count, size_t permutations,
                const PairRules& rules, const Signature& signature, std::vector<Candidate>& out) {
  std::vector<uint32_t> anchors;
  for_groups(keys, count, [&](const uint32_t* from, const uint32_t* to) {
    auto size = static_cast<size_t>(to - from);
    anchors.clear();
    for (const uint32_t* i = from; i < to; ++i) {
      uint32_t document = documents[*i], best = 0;
      const uint32_t* own = signature(document);
      for (uint32_t anchor : anchors) {
        uint32_t equal = agreement(signature(anchor), own, permutations);
        best = std::max(best, equal);
        if (equal >= rules.least) out.push_back({anchor, document, equal});
      }
      if (size <= rules.all_pairs || (best < rules.sure && anchors.size() < rules.anchors)) anchors.push_back(document);
    }
  });
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
