// Pairs of near-duplicates to clusters. Both kinds name a document's cluster by its first member.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <queue>
#include <vector>

namespace kernel {

struct Pair {
  int64_t first, second;
};

// Names clusters by their first member: labels of any kind become smallest positions.
inline void name_by_first(std::vector<int64_t>& labels, int64_t* out) {
  std::vector<int64_t> first(labels.size(), -1);
  for (size_t i = 0; i < labels.size(); ++i) {
    int64_t& name = first[static_cast<size_t>(labels[i])];
    if (name < 0) name = static_cast<int64_t>(i);
    out[i] = name;
  }
}

// Everyone that pairs lead to, however long the chain.
inline void connected(const Pair* pairs, size_t count, size_t documents, int64_t* out) {
  std::vector<int64_t> parent(documents);
  std::iota(parent.begin(), parent.end(), 0);
  auto find = [&](int64_t i) {
    for (auto at = [&](int64_t j) -> int64_t& { return parent[static_cast<size_t>(j)]; }; at(i) != i; i = at(i))
      at(i) = at(at(i));
    return i;
  };
  for (size_t i = 0; i < count; ++i) {
    int64_t a = find(pairs[i].first), b = find(pairs[i].second);
    parent[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
  }
  for (size_t i = 0; i < documents; ++i) out[i] = find(static_cast<int64_t>(i));
}

// The document with the most free near-duplicates (the first of equals) becomes an anchor and takes them; then the next
// one. Every member is thus paired with its cluster's anchor.
inline void anchored(const Pair* pairs, size_t count, size_t documents, int64_t* out) {
  std::vector<size_t> starts(documents + 1);
  for (size_t i = 0; i < count; ++i)
    ++starts[static_cast<size_t>(pairs[i].first) + 1], ++starts[static_cast<size_t>(pairs[i].second) + 1];
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  std::vector<int64_t> near(2 * count);
  {
    std::vector<size_t> next(starts.begin(), starts.end() - 1);
    for (size_t i = 0; i < count; ++i) {
      near[next[static_cast<size_t>(pairs[i].first)]++] = pairs[i].second;
      near[next[static_cast<size_t>(pairs[i].second)]++] = pairs[i].first;
    }
  }
  std::vector<int64_t> labels(documents, -1);
  auto for_free = [&](size_t document, auto each) {
    for (size_t i = starts[document]; i < starts[document + 1]; ++i)
      if (labels[static_cast<size_t>(near[i])] < 0) each(static_cast<size_t>(near[i]));
  };
  struct Entry {
    size_t free, document;
    bool operator<(const Entry& other) const {
      return free != other.free ? free < other.free : document > other.document;
    }
  };
  std::priority_queue<Entry> queue;
  for (size_t i = 0; i < documents; ++i)
    if (starts[i + 1] > starts[i]) queue.push({starts[i + 1] - starts[i], i});
  while (!queue.empty()) {
    Entry top = queue.top();
    queue.pop();
    if (labels[top.document] >= 0) continue;
    size_t free = 0;
    for_free(top.document, [&](size_t) { ++free; });
    if (free < top.free) {  // some were taken since: its turn is later
      queue.push({free, top.document});
      continue;
    }
    labels[top.document] = static_cast<int64_t>(top.document);
    for_free(top.document, [&](size_t member) { labels[member] = static_cast<int64_t>(top.document); });
  }
  for (size_t i = 0; i < documents; ++i)
    if (labels[i] < 0) labels[i] = static_cast<int64_t>(i);
  name_by_first(labels, out);
}

}  // namespace kernel
