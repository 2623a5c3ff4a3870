#include "core/similarity/proximity_graph.h"

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/HNSW.h>
#include <faiss/utils/Heap.h>

#include <cstring>
#include <exception>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/similarity/inner_product.h"

namespace reprise {
namespace {

using SlotId = faiss::Index::idx_t;

// Links of a vector on each level (twice as many on the lowest), and how many candidates an
// insertion weighs: at 100,000 vectors of 384 dimensions about a millisecond each.
constexpr int kLinks = 16;
constexpr int kInsertionWidth = 80;

template <typename Call>
absl::Status Guard(Call call) {
  try {
    call();
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("faiss: ", error.what()));
  }
}

// Nearer is smaller for FAISS.
class NegatedProduct final : public faiss::DistanceComputer {
 public:
  NegatedProduct(const float* vectors, int dimensions)
      : vectors_(vectors), dimensions_(dimensions) {}

  void set_query(const float* query) override { query_ = query; }
  float operator()(SlotId slot) override { return -InnerProduct(query_, At(slot), dimensions_); }
  float symmetric_dis(SlotId a, SlotId b) override {
    return -InnerProduct(At(a), At(b), dimensions_);
  }

 private:
  const float* At(SlotId slot) const { return vectors_ + slot * dimensions_; }

  const float* vectors_;
  const int dimensions_;
  const float* query_ = nullptr;
};

template <typename T>
void Put(const T* values, size_t count, std::string& out) {
  out.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

template <typename T>
absl::Status Take(ByteReader& reader, std::vector<T>& out) {
  ASSIGN_OR_RETURN(const ByteView bytes, reader.ReadBytes(out.size() * sizeof(T)));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

// A walk that stands on a vector at a level reads that level's links of it, so a link may only
// name vectors that have the level.
absl::Status CheckLinks(const faiss::HNSW& graph) {
  const auto size = static_cast<int64_t>(graph.levels.size());
  for (int64_t slot = 0; slot < size; ++slot) {
    for (int level = 0; level < graph.levels[slot]; ++level) {
      size_t begin = 0, end = 0;
      graph.neighbor_range(slot, level, &begin, &end);
      for (size_t i = begin; i < end; ++i) {
        const int link = graph.neighbors[i];
        if (link == -1) continue;
        if (link < 0 || link >= size || graph.levels[link] <= level) {
          return absl::DataLossError(absl::StrCat("slot ", slot, " links to ", link));
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct ProximityGraph::Impl {
  faiss::HNSW graph{kLinks};
  std::vector<omp_lock_t> locks;   // as FAISS wants them, although insertions run alone
  faiss::VisitedTable visited{0};  // of insertions

  Impl() { graph.efConstruction = kInsertionWidth; }
  ~Impl() {
    for (omp_lock_t& lock : locks) omp_destroy_lock(&lock);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Grow(size_t size) {
    visited.visited.resize(size);
    while (locks.size() < size) omp_init_lock(&locks.emplace_back());
  }
};

ProximityGraph::ProximityGraph() : impl_(std::make_unique<Impl>()) {}
ProximityGraph::~ProximityGraph() = default;
ProximityGraph::ProximityGraph(ProximityGraph&&) noexcept = default;
ProximityGraph& ProximityGraph::operator=(ProximityGraph&&) noexcept = default;

int64_t ProximityGraph::size() const { return static_cast<int64_t>(impl_->graph.levels.size()); }

absl::Status ProximityGraph::Insert(const float* vectors, int dimensions) {
  const auto slot = static_cast<int>(size());
  return Guard([&] {
    impl_->Grow(static_cast<size_t>(slot) + 1);
    impl_->graph.prepare_level_tab(1);
    NegatedProduct distance(vectors, dimensions);
    distance.set_query(vectors + int64_t{slot} * dimensions);
    impl_->graph.add_with_locks(distance, impl_->graph.levels[slot] - 1, slot, impl_->locks,
                                impl_->visited);
  });
}

absl::StatusOr<std::vector<ProximityGraph::Hit>> ProximityGraph::Search(
    const float* vectors, absl::Span<const float> query, int width) const {
  std::vector<Hit> hits;
  if (size() == 0) return hits;
  const auto places = static_cast<size_t>(width);
  std::vector<SlotId> slots(places);
  std::vector<float> distances(places);
  RETURN_IF_ERROR(Guard([&] {
    NegatedProduct distance(vectors, static_cast<int>(query.size()));
    distance.set_query(query.data());
    faiss::VisitedTable visited(static_cast<int>(size()));
    faiss::SearchParametersHNSW parameters;
    parameters.efSearch = width;
    faiss::maxheap_heapify(places, distances.data(), slots.data());
    impl_->graph.search(distance, width, slots.data(), distances.data(), visited, &parameters);
    faiss::maxheap_reorder(places, distances.data(), slots.data());
  }));
  for (size_t i = 0; i < places && slots[i] >= 0; ++i) hits.push_back({slots[i], -distances[i]});
  return hits;
}

std::string ProximityGraph::Serialize() const {
  const faiss::HNSW& graph = impl_->graph;
  std::string out;
  const int32_t head[] = {graph.entry_point, graph.max_level};
  Put(head, 2, out);
  Put(graph.levels.data(), graph.levels.size(), out);
  Put(graph.neighbors.data(), graph.neighbors.size(), out);
  return out;
}

absl::StatusOr<ProximityGraph> ProximityGraph::Parse(ByteView bytes, int64_t size) {
  ProximityGraph parsed;
  faiss::HNSW& graph = parsed.impl_->graph;
  ByteReader reader(bytes);
  ASSIGN_OR_RETURN(const int32_t entry, reader.Read<int32_t>());
  ASSIGN_OR_RETURN(const int32_t top, reader.Read<int32_t>());
  if (size < 1 || size > static_cast<int64_t>(reader.remaining() / sizeof(int))) {
    return absl::DataLossError(absl::StrCat("graph of ", size, " vectors"));
  }
  graph.levels.resize(static_cast<size_t>(size));
  RETURN_IF_ERROR(Take(reader, graph.levels));
  const auto limit = static_cast<int>(graph.cum_nneighbor_per_level.size()) - 1;
  size_t links = 0;
  for (const int levels : graph.levels) {
    if (levels < 1 || levels > limit) return absl::DataLossError(absl::StrCat(levels, " levels"));
    links += static_cast<size_t>(graph.cum_nb_neighbors(levels));
  }
  if (links * sizeof(int) != reader.remaining()) return absl::DataLossError("links do not fit");
  if (entry < 0 || entry >= size || graph.levels[entry] != top + 1) {
    return absl::DataLossError(absl::StrCat("entry ", entry, " at level ", top));
  }
  RETURN_IF_ERROR(Guard([&] {
    graph.prepare_level_tab(static_cast<size_t>(size), /*preset_levels=*/true);
    parsed.impl_->Grow(static_cast<size_t>(size));
  }));
  graph.entry_point = entry;
  graph.max_level = top;
  RETURN_IF_ERROR(Take(reader, graph.neighbors));
  RETURN_IF_ERROR(CheckLinks(graph));
  return parsed;
}

}  // namespace reprise
