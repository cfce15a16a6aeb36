// The Python module: buffers in, buffers out, the interpreter free meanwhile. See _kernel.pyi for what each does.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atomic>
#include <exception>
#include <thread>

#include "clusters.h"
#include "lsh.h"
#include "minhash.h"

using namespace kernel;

namespace {

constexpr size_t RUN = 64;  // documents that a thread takes at a time

// A contiguous buffer of a Python object, for as long as this lives.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() {
    if (view_.obj) PyBuffer_Release(&view_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  bool get(PyObject* object, bool writable = false) {
    return PyObject_GetBuffer(object, &view_, writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) == 0;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(view_.buf);
  }
  template <class T>
  size_t count() const {
    return static_cast<size_t>(view_.len) / sizeof(T);
  }

 private:
  Py_buffer view_{};
};

// Documents: UTF-8 bytes and 64-bit offsets [documents + 1], as in Arrow's large_string.
struct Texts {
  Buffer data, offsets;
  size_t documents = 0;

  bool get(PyObject* bytes, PyObject* ends) {
    if (!data.get(bytes) || !offsets.get(ends)) return false;
    documents = offsets.count<int64_t>() ? offsets.count<int64_t>() - 1 : 0;
    const auto* at = offsets.as<int64_t>();
    bool good = !documents || (at[0] >= 0 && at[documents] <= static_cast<int64_t>(data.count<uint8_t>()));
    for (size_t i = 0; i < documents; ++i) good &= at[i] <= at[i + 1] && at[i + 1] - at[i] < int64_t{1} << 32;
    if (!good) PyErr_SetString(PyExc_ValueError, "offsets must ascend, within the data, by less than 4 GiB a document");
    return good;
  }
  const uint8_t* start(size_t i) const { return data.as<uint8_t>() + offsets.as<int64_t>()[i]; }
  size_t length(size_t i) const {
    return static_cast<size_t>(offsets.as<int64_t>()[i + 1] - offsets.as<int64_t>()[i]);
  }
  size_t bytes() const { return documents ? static_cast<size_t>(start(documents) - start(0)) : 0; }
  const uint8_t* readable() const { return data.as<uint8_t>() + data.count<uint8_t>(); }
};

bool expect(bool good, const char* what) {
  if (!good) PyErr_SetString(PyExc_ValueError, what);
  return good;
}

// each(first, last) for blocks of [0, count) on `threads` threads, without the interpreter's lock.
template <class Each>
bool parallel(size_t count, int threads, Each each) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  auto work = [&] {
    try {
      each(next);
    } catch (const std::exception&) {
      failed = true;
    }
  };
  Py_BEGIN_ALLOW_THREADS;
  std::vector<std::thread> others;
  size_t most = (count + RUN - 1) / RUN;
  try {
    for (size_t i = 1; i < std::min<size_t>(static_cast<size_t>(std::max(threads, 1)), most); ++i)
      others.emplace_back(work);
  } catch (const std::exception&) {  // fewer threads, then
  }
  work();
  for (auto& thread : others) thread.join();
  Py_END_ALLOW_THREADS;
  if (failed) PyErr_NoMemory();
  return !failed;
}

// Every document once, with a scratch a thread: each(scratch, document).
template <class S, class Each>
bool for_documents(size_t count, int threads, Each each) {
  return parallel(count, threads, [&](std::atomic<size_t>& next) {
    S scratch;
    for (size_t from; (from = next.fetch_add(RUN)) < count;)
      for (size_t i = from; i < std::min(count, from + RUN); ++i) each(scratch, i);
  });
}

template <class T>
PyObject* bytes_of(const std::vector<T>& values) {
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(values.data()),
                                   static_cast<Py_ssize_t>(values.size() * sizeof(T)));
}

PyObject* none_if(bool good) {
  if (!good) return nullptr;
  Py_RETURN_NONE;
}

PyObject* signatures(PyObject*, PyObject* args) {
  PyObject *data, *offsets, *a, *b, *out;
  int characters, threads;
  Py_ssize_t size;
  if (!PyArg_ParseTuple(args, "OOpnOOOi", &data, &offsets, &characters, &size, &a, &b, &out, &threads)) return nullptr;
  Texts texts;
  Buffer factors, terms, result;
  if (!texts.get(data, offsets) || !factors.get(a) || !terms.get(b) || !result.get(out, true)) return nullptr;
  Scheme scheme{characters != 0, static_cast<size_t>(size), factors.count<uint32_t>(), {}, {}};
  if (!expect(size > 0 && scheme.permutations > 0 && terms.count<uint32_t>() == scheme.permutations, "bad scheme") ||
      !expect(result.count<uint32_t>() == texts.documents * scheme.permutations, "out must be [documents, permutations]"))
    return nullptr;
  size_t padded = (scheme.permutations + LANES - 1) / LANES * LANES;
  scheme.a.assign(padded, 1), scheme.b.assign(padded, 0);
  std::copy_n(factors.as<uint32_t>(), scheme.permutations, scheme.a.begin());
  std::copy_n(terms.as<uint32_t>(), scheme.permutations, scheme.b.begin());
  auto* rows = result.as<uint32_t>();
  return none_if(for_documents<SignScratch>(texts.documents, threads, [&](SignScratch& s, size_t i) {
    sign(texts.start(i), texts.length(i), texts.readable(), scheme, s, rows + i * scheme.permutations);
  }));
}

PyObject* content_hashes(PyObject*, PyObject* args) {
  PyObject *data, *offsets, *out;
  int threads;
  if (!PyArg_ParseTuple(args, "OOOi", &data, &offsets, &out, &threads)) return nullptr;
  Texts texts;
  Buffer result;
  if (!texts.get(data, offsets) || !result.get(out, true)) return nullptr;
  if (!expect(result.count<uint64_t>() == 2 * texts.documents, "out must be [documents, 2]")) return nullptr;
  auto* hashes = result.as<uint64_t>();
  return none_if(for_documents<Scratch>(texts.documents, threads, [&](Scratch& s, size_t i) {
    content_hash(texts.start(i), texts.length(i), s, hashes + 2 * i);
  }));
}

PyObject* words_of(PyObject*, PyObject* args) {
  PyObject *data, *offsets;
  if (!PyArg_ParseTuple(args, "OO", &data, &offsets)) return nullptr;
  Texts texts;
  if (!texts.get(data, offsets)) return nullptr;
  std::vector<uint64_t> hashes;
  std::vector<int64_t> starts, ends, documents{0};
  bool good = parallel(texts.documents, 1, [&](std::atomic<size_t>&) {
    Scratch s;
    size_t some = texts.bytes() / 5;  // a word and its space: growing would copy what pages hold already
    hashes.reserve(some), starts.reserve(some), ends.reserve(some);
    for (size_t i = 0; i < texts.documents; ++i) {
      words<true>(texts.start(i), texts.length(i), texts.readable(), s);
      int64_t base = texts.start(i) - texts.data.as<uint8_t>();
      hashes.insert(hashes.end(), s.units.begin(), s.units.begin() + static_cast<ptrdiff_t>(s.count));
      for (const Span& span : s.spans) starts.push_back(base + span.start), ends.push_back(base + span.end);
      documents.push_back(static_cast<int64_t>(hashes.size()));
    }
  });
  if (!good) return nullptr;
  return Py_BuildValue("(NNNN)", bytes_of(hashes), bytes_of(starts), bytes_of(ends), bytes_of(documents));
}

PyObject* shingles_of(PyObject*, PyObject* args) {
  PyObject *data, *offsets;
  int by_character;
  Py_ssize_t size;
  if (!PyArg_ParseTuple(args, "OOpn", &data, &offsets, &by_character, &size)) return nullptr;
  Texts texts;
  if (!texts.get(data, offsets) || !expect(size > 0, "size must be positive")) return nullptr;
  std::vector<uint64_t> hashes;
  std::vector<int64_t> documents{0};
  bool good = parallel(texts.documents, 1, [&](std::atomic<size_t>&) {
    SignScratch s;
    hashes.reserve(by_character ? texts.bytes() : texts.bytes() / 5);
    for (size_t i = 0; i < texts.documents; ++i) {
      size_t count = shingle(texts.start(i), texts.length(i), texts.readable(), by_character != 0,
                             static_cast<size_t>(size), s);
      hashes.insert(hashes.end(), s.shingles.begin(), s.shingles.begin() + static_cast<ptrdiff_t>(count));
      documents.push_back(static_cast<int64_t>(hashes.size()));
    }
  });
  return good ? Py_BuildValue("(NN)", bytes_of(hashes), bytes_of(documents)) : nullptr;
}

PyObject* combine_of(PyObject*, PyObject* args) {
  PyObject *units, *documents, *out;
  Py_ssize_t size;
  if (!PyArg_ParseTuple(args, "OOnO", &units, &documents, &size, &out)) return nullptr;
  Buffer hashes, offsets, result;
  if (!hashes.get(units) || !offsets.get(documents) || !result.get(out, true)) return nullptr;
  size_t count = hashes.count<uint64_t>(), n = offsets.count<int64_t>();
  const auto* at = offsets.as<int64_t>();
  bool good = size > 0 && n && at[0] == 0 && at[n - 1] == static_cast<int64_t>(count) &&
              std::is_sorted(at, at + n) && result.count<uint64_t>() == count;
  if (!expect(good, "sizes do not fit")) return nullptr;
  auto* to = result.as<uint64_t>();
  for (size_t i = 0; i + 1 < n; ++i) {
    auto length = static_cast<size_t>(at[i + 1] - at[i]), width = static_cast<size_t>(size);
    if (length >= width) combine(hashes.as<uint64_t>() + at[i], length - width + 1, width, to + at[i]);
  }
  Py_RETURN_NONE;
}

PyObject* minima_of(PyObject*, PyObject* args) {
  PyObject *hashes, *documents, *a, *b, *out;
  if (!PyArg_ParseTuple(args, "OOOOO", &hashes, &documents, &a, &b, &out)) return nullptr;
  Buffer shingles, offsets, factors, terms, result;
  if (!shingles.get(hashes) || !offsets.get(documents) || !factors.get(a) || !terms.get(b) || !result.get(out, true))
    return nullptr;
  size_t n = offsets.count<int64_t>(), permutations = factors.count<uint32_t>();
  const auto* at = offsets.as<int64_t>();
  bool good = n && at[0] >= 0 && std::is_sorted(at, at + n) && permutations % LANES == 0 && permutations &&
              at[n - 1] <= static_cast<int64_t>(shingles.count<uint64_t>()) &&
              terms.count<uint32_t>() == permutations && result.count<uint32_t>() == (n - 1) * permutations;
  if (!expect(good, "sizes do not fit")) return nullptr;
  return none_if(for_documents<std::vector<uint32_t>>(n - 1, 1, [&](std::vector<uint32_t>& premixed, size_t i) {
    auto count = static_cast<size_t>(at[i + 1] - at[i]);
    if (premixed.size() < count) premixed.resize(count);
    premix(shingles.as<uint64_t>() + at[i], count, premixed.data());
    minima(premixed.data(), count, factors.as<uint32_t>(), terms.as<uint32_t>(), permutations,
           result.as<uint32_t>() + i * permutations);
  }));
}

PyObject* jaccard_of_pairs(PyObject*, PyObject* args) {
  PyObject *hashes, *documents, *pairs, *out;
  int threads;
  if (!PyArg_ParseTuple(args, "OOOOi", &hashes, &documents, &pairs, &out, &threads)) return nullptr;
  Buffer shingles, offsets, wanted, result;
  if (!shingles.get(hashes) || !offsets.get(documents) || !wanted.get(pairs) || !result.get(out, true)) return nullptr;
  size_t n = result.count<double>(), sets = offsets.count<int64_t>();
  const auto* at = offsets.as<int64_t>();
  const auto* pair = wanted.as<int64_t>();
  bool good = sets && wanted.count<int64_t>() == 2 * n && at[0] >= 0 && std::is_sorted(at, at + sets) &&
              at[sets - 1] <= static_cast<int64_t>(shingles.count<uint64_t>());
  for (size_t i = 0; good && i < 2 * n; ++i) good = pair[i] >= 0 && pair[i] + 1 < static_cast<int64_t>(sets);
  if (!expect(good, "pairs must be [pairs, 2] positions of sets")) return nullptr;
  auto set = [&](int64_t i) { return Set{shingles.as<uint64_t>() + at[i], shingles.as<uint64_t>() + at[i + 1]}; };
  return none_if(for_documents<JaccardTable>(n, threads, [&](JaccardTable& table, size_t i) {
    result.as<double>()[i] = table.jaccard(set(pair[2 * i]), set(pair[2 * i + 1]));
  }));
}

PyObject* band_keys_of(PyObject*, PyObject* args) {
  PyObject *signatures, *out;
  Py_ssize_t permutations, bands, rows;
  int threads;
  if (!PyArg_ParseTuple(args, "OnnnOi", &signatures, &permutations, &bands, &rows, &out, &threads)) return nullptr;
  Buffer from, to;
  if (!from.get(signatures) || !to.get(out, true)) return nullptr;
  if (!expect(bands >= 0 && rows >= 0 && permutations > 0 && bands * rows <= permutations, "bands × rows exceed the permutations"))
    return nullptr;
  size_t documents = from.count<uint32_t>() / static_cast<size_t>(permutations);
  if (!expect(to.count<uint64_t>() == documents * static_cast<size_t>(bands), "out must be [bands, documents]"))
    return nullptr;
  return none_if(for_documents<Scratch>(documents, threads, [&](Scratch&, size_t i) {
    const uint32_t* row = from.as<uint32_t>() + i * static_cast<size_t>(permutations);
    for (size_t band = 0; band < static_cast<size_t>(bands); ++band)
      to.as<uint64_t>()[band * documents + i] = band_key(row + band * static_cast<size_t>(rows), static_cast<size_t>(rows));
  }));
}

// Min-hashes of documents that lie in several arrays, one after the other.
class Signatures {
 public:
  bool get(PyObject* arrays, size_t permutations) {
    permutations_ = permutations;
    if (!expect(PyList_Check(arrays), "signatures must be a list of arrays")) return false;
    parts_ = std::vector<Buffer>(static_cast<size_t>(PyList_GET_SIZE(arrays)));
    starts_.push_back(0);
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (!parts_[i].get(PyList_GET_ITEM(arrays, static_cast<Py_ssize_t>(i)))) return false;
      starts_.push_back(starts_.back() + parts_[i].count<uint32_t>() / permutations);
    }
    return expect(starts_.back() < ~0u, "more than 2^32 documents");
  }
  size_t documents() const { return starts_.back(); }
  const uint32_t* operator()(uint32_t document) const {
    size_t part = parts_.size() == 1 ? 0
                                     : static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), document) -
                                                           starts_.begin()) - 1;
    return parts_[part].as<uint32_t>() + (document - starts_[part]) * permutations_;
  }

 private:
  std::vector<Buffer> parts_;
  std::vector<size_t> starts_;
  size_t permutations_ = 1;
};

PyObject* candidates_of(PyObject*, PyObject* args) {
  PyObject *keys, *documents, *arrays;
  Py_ssize_t permutations, least, sure;
  int threads;
  if (!PyArg_ParseTuple(args, "OOOnnni", &keys, &documents, &arrays, &permutations, &least, &sure, &threads))
    return nullptr;
  Buffer values, positions;
  Signatures signed_;
  if (!expect(permutations > 0, "no permutations") || !values.get(keys) || !positions.get(documents) ||
      !signed_.get(arrays, static_cast<size_t>(permutations)))
    return nullptr;
  size_t count = positions.count<uint32_t>(), bands = count ? values.count<uint64_t>() / count : 0;
  const auto* document = positions.as<uint32_t>();
  bool good = values.count<uint64_t>() == bands * count && count < ~0u &&
              std::all_of(document, document + count, [&](uint32_t d) { return d < signed_.documents(); }) &&
              std::is_sorted(document, document + count);
  if (!expect(good, "keys must be [bands, documents], documents ascending positions of signatures")) return nullptr;
  PairRules rules{static_cast<uint32_t>(least), static_cast<uint32_t>(sure)};
  std::vector<std::vector<Candidate>> found(bands);
  good = parallel(bands * RUN, threads, [&](std::atomic<size_t>& next) {
    for (size_t band; (band = next.fetch_add(1)) < bands;)
      candidates(values.as<BandKey>() + band * count, document, count, static_cast<size_t>(permutations), rules, signed_,
                 found[band]);
  });
  if (!good) return nullptr;
  std::vector<Candidate> all;
  for (auto& part : found) all.insert(all.end(), part.begin(), part.end());
  return bytes_of(all);
}

PyObject* first_of_equals(PyObject*, PyObject* args) {
  PyObject *hashes, *out;
  if (!PyArg_ParseTuple(args, "OO", &hashes, &out)) return nullptr;
  Buffer keys, result;
  if (!keys.get(hashes) || !result.get(out, true)) return nullptr;
  size_t count = result.count<int64_t>();
  if (!expect(keys.count<ContentKey>() == count && count < ~0u, "out must be [documents]")) return nullptr;
  auto* first = result.as<int64_t>();
  return none_if(parallel(count, 1, [&](std::atomic<size_t>&) {
    std::iota(first, first + count, 0);
    for_groups(keys.as<ContentKey>(), count, [&](const uint32_t* from, const uint32_t* to) {
      for (const uint32_t* i = from; i < to; ++i) first[*i] = *from;
    });
  }));
}

PyObject* clusters_of(PyObject*, PyObject* args) {
  PyObject *pairs, *out;
  int chains;
  if (!PyArg_ParseTuple(args, "OpO", &pairs, &chains, &out)) return nullptr;
  Buffer edges, result;
  if (!edges.get(pairs) || !result.get(out, true)) return nullptr;
  size_t count = edges.count<Pair>(), documents = result.count<int64_t>();
  const auto* pair = edges.as<Pair>();
  auto inside = [&](int64_t i) { return i >= 0 && i < static_cast<int64_t>(documents); };
  bool good = std::all_of(pair, pair + count, [&](const Pair& p) { return inside(p.first) && inside(p.second); });
  if (!expect(good, "pairs must be [pairs, 2] positions of documents")) return nullptr;
  return none_if(parallel(1, 1, [&](std::atomic<size_t>&) {
    (chains ? connected : anchored)(pair, count, documents, result.as<int64_t>());
  }));
}

PyObject* use_level(PyObject*, PyObject* args) {
  int level;
  if (!PyArg_ParseTuple(args, "i", &level)) return nullptr;
  level = std::min(level, PROCESSOR);
  find_edges = choose_edges(level), normalise = choose_normalise(level), combine = choose_combine(level);
  premix = choose_premix(level), minima = choose_minima(level), agreement = choose_agreement(level);
  return PyLong_FromLong(level);
}

PyMethodDef METHODS[] = {
    {"signatures", signatures, METH_VARARGS, nullptr},
    {"content_hashes", content_hashes, METH_VARARGS, nullptr},
    {"words", words_of, METH_VARARGS, nullptr},
    {"shingles", shingles_of, METH_VARARGS, nullptr},
    {"combine", combine_of, METH_VARARGS, nullptr},
    {"minima", minima_of, METH_VARARGS, nullptr},
    {"jaccard", jaccard_of_pairs, METH_VARARGS, nullptr},
    {"band_keys", band_keys_of, METH_VARARGS, nullptr},
    {"candidates", candidates_of, METH_VARARGS, nullptr},
    {"first_of_equals", first_of_equals, METH_VARARGS, nullptr},
    {"clusters", clusters_of, METH_VARARGS, nullptr},
    {"use_level", use_level, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", nullptr, -1, METHODS, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__kernel() {
  PyObject* module = PyModule_Create(&MODULE);
  if (module) {
    PyModule_AddStringConstant(module, "UNICODE_VERSION", UNICODE_VERSION);
    PyModule_AddStringConstant(module, "SOURCES", SOURCES);
  }
  return module;
}
