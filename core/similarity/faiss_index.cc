#include "core/similarity/faiss_index.h"

#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <thread>

#include "core/base/status_macros.h"
#include "core/similarity/faiss_file.h"
#include "core/similarity/inner_product.h"
#include "core/similarity/vector_check.h"

namespace reprise {
namespace {

constexpr int kLowestPriority = 19;

enum class Work { kNone, kBuild, kExtend };

class FaissIndexImpl final : public FaissIndex {
 public:
  FaissIndexImpl(GraphedTable graphed, const FaissIndexOptions& options);
  ~FaissIndexImpl() override;

  absl::Status Add(uint64_t id, absl::Span<const float> vector) override;
  absl::Status Remove(uint64_t id) override;
  absl::StatusOr<std::vector<Neighbor>> Search(absl::Span<const float> query,
                                               int count) const override;
  bool Contains(uint64_t id) const override {
    const std::lock_guard lock(ids_mutex_);
    return ids_.contains(id);
  }
  bool Holds(uint64_t id, absl::Span<const float> vector) const override;
  std::vector<uint64_t> Ids() const override {
    const std::lock_guard lock(ids_mutex_);
    return {ids_.begin(), ids_.end()};
  }
  int64_t size() const override {
    const std::lock_guard lock(ids_mutex_);
    return static_cast<int64_t>(ids_.size());
  }
  int dimensions() const override { return dimensions_; }
  absl::Status Save(const std::string& path) const override;
  FaissIndexState State() const override;
  void AwaitBuilt() const override;

 private:
  void Delete(uint64_t id);
  Work NextWork() const;
  void BuildLoop();
  void Build();
  void CatchUp(GraphedTable& fresh) const;
  void Extend();
  void Scan(absl::Span<const float> query, int64_t from, int64_t to,
            std::vector<Neighbor>& out) const;
  absl::Status Walk(absl::Span<const float> query, int count, std::vector<Neighbor>& out) const;

  const int dimensions_;
  const FaissIndexOptions options_;

  // The standard mutexes, since ThreadSanitizer does not see into a packaged abseil.
  mutable std::shared_mutex mutex_;           // guards what follows up to the blank line
  mutable std::condition_variable_any news_;  // there may be work, or none any more
  GraphedTable graphed_;
  std::set<uint64_t> changed_;  // while a graph is built: since it began
  bool building_ = false;
  bool build_failed_ = false;  // FAISS did: all is scanned from then on
  bool stopping_ = false;

  mutable std::mutex ids_mutex_;
  std::set<uint64_t> ids_;  // live ones

  std::thread builder_;
};

FaissIndexImpl::FaissIndexImpl(GraphedTable graphed, const FaissIndexOptions& options)
    : dimensions_(graphed.table.dimensions()), options_(options), graphed_(std::move(graphed)) {
  const VectorTable& table = graphed_.table;
  for (int64_t slot = 0; slot < table.slots(); ++slot) {
    if (!table.is_dead(slot)) ids_.insert(table.id(slot));
  }
  builder_ = std::thread([this] { BuildLoop(); });
}

FaissIndexImpl::~FaissIndexImpl() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_all();
  builder_.join();
}

absl::Status FaissIndexImpl::Add(uint64_t id, absl::Span<const float> vector) {
  RETURN_IF_ERROR(CheckVector(vector, dimensions_));
  const std::lock_guard lock(mutex_);
  Delete(id);
  graphed_.table.Append(id, vector);
  {
    const std::lock_guard ids_lock(ids_mutex_);
    ids_.insert(id);
  }
  if (NextWork() != Work::kNone) news_.notify_all();
  return absl::OkStatus();
}

absl::Status FaissIndexImpl::Remove(uint64_t id) {
  const std::lock_guard lock(mutex_);
  Delete(id);
  if (NextWork() != Work::kNone) news_.notify_all();
  return absl::OkStatus();
}

void FaissIndexImpl::Delete(uint64_t id) {
  if (building_) changed_.insert(id);
  const auto slot = graphed_.table.Find(id);
  if (!slot) return;
  if (*slot < graphed_.covered()) {
    graphed_.table.Bury(*slot);
  } else {
    graphed_.table.Drop(*slot);
  }
  const std::lock_guard ids_lock(ids_mutex_);
  ids_.erase(id);
}

absl::StatusOr<std::vector<Neighbor>> FaissIndexImpl::Search(absl::Span<const float> query,
                                                             int count) const {
  RETURN_IF_ERROR(CheckVector(query, dimensions_));
  std::vector<Neighbor> neighbors;
  const std::shared_lock lock(mutex_);
  if (count <= 0) return neighbors;
  RETURN_IF_ERROR(Walk(query, count, neighbors));
  Scan(query, graphed_.covered(), graphed_.table.slots(), neighbors);
  SortNeighbors(neighbors, count);
  return neighbors;
}

void FaissIndexImpl::Scan(absl::Span<const float> query, int64_t from, int64_t to,
                          std::vector<Neighbor>& out) const {
  const VectorTable& table = graphed_.table;
  for (int64_t slot = from; slot < to; ++slot) {
    if (table.is_dead(slot)) continue;
    out.push_back(
        {table.id(slot), InnerProduct(query.data(), table.vector(slot).data(), dimensions_)});
  }
}

// The nearest that the graph covers: wider until enough of what is found is alive, by a scan
// once that is no more work.
absl::Status FaissIndexImpl::Walk(absl::Span<const float> query, int count,
                                  std::vector<Neighbor>& out) const {
  const VectorTable& table = graphed_.table;
  const int64_t covered = graphed_.covered();
  int64_t width = std::max<int64_t>(options_.search_width, int64_t{4} * count);
  for (; width * 16 < covered; width *= 4) {
    ASSIGN_OR_RETURN(const auto hits,
                     graphed_.graph->Search(table.data(), query, static_cast<int>(width)));
    out.clear();
    for (const ProximityGraph::Hit& hit : hits) {
      if (!table.is_dead(hit.slot)) out.push_back({table.id(hit.slot), hit.similarity});
    }
    if (out.size() >= static_cast<size_t>(count)) return absl::OkStatus();
  }
  out.clear();
  Scan(query, 0, covered, out);
  return absl::OkStatus();
}

bool FaissIndexImpl::Holds(uint64_t id, absl::Span<const float> vector) const {
  const std::shared_lock lock(mutex_);
  const auto slot = graphed_.table.Find(id);
  return slot && graphed_.table.vector(*slot) == vector;
}

absl::Status FaissIndexImpl::Save(const std::string& path) const {
  std::string bytes;
  {
    const std::shared_lock lock(mutex_);
    bytes = SerializeTable(graphed_);
  }
  return WriteIndexFile(path, bytes);
}

FaissIndexState FaissIndexImpl::State() const {
  const std::shared_lock lock(mutex_);
  return {graphed_.covered(), graphed_.table.slots() - graphed_.covered(), graphed_.table.dead()};
}

void FaissIndexImpl::AwaitBuilt() const {
  std::unique_lock lock(mutex_);
  news_.wait(lock, [this] { return stopping_ || (!building_ && NextWork() == Work::kNone); });
}

// What the builder has to do; the caller holds the lock.
Work FaissIndexImpl::NextWork() const {
  if (build_failed_) return Work::kNone;
  const VectorTable& table = graphed_.table;
  if (!graphed_.graph) return table.live() >= options_.graph_from ? Work::kBuild : Work::kNone;
  if (table.dead() * 100 > graphed_.covered() * options_.max_dead_percent) return Work::kBuild;
  const bool long_tail = table.slots() - graphed_.covered() > options_.max_beside;
  return long_tail ? Work::kExtend : Work::kNone;
}

void FaissIndexImpl::BuildLoop() {
  setpriority(PRIO_PROCESS, 0, kLowestPriority);  // of this thread: Linux keeps it by thread
  while (true) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      news_.notify_all();
      news_.wait(lock, [this] { return stopping_ || NextWork() != Work::kNone; });
      if (stopping_) return;
      work = NextWork();
    }
    if (work == Work::kBuild) {
      Build();
    } else {
      Extend();
    }
  }
}

// Builds a graph over a copy of what is alive, apart from those who search, and swaps it in.
void FaissIndexImpl::Build() {
  GraphedTable fresh(dimensions_);
  {
    const std::lock_guard lock(mutex_);
    building_ = true;
  }
  {
    const std::shared_lock lock(mutex_);  // searches go on; nobody else comes to changed_
    changed_.clear();
    const VectorTable& table = graphed_.table;
    fresh.table.Reserve(table.live());
    for (int64_t slot = 0; slot < table.slots(); ++slot) {
      if (!table.is_dead(slot)) fresh.table.Append(table.id(slot), table.vector(slot));
    }
  }
  // With half as many as a graph begins with, scanning is as good again.
  const bool with_graph = fresh.table.live() >= (options_.graph_from + 1) / 2;
  absl::Status built;
  if (with_graph) fresh.graph.emplace();
  while (built.ok() && with_graph && fresh.covered() < fresh.table.slots()) {
    {
      const std::shared_lock lock(mutex_);
      if (stopping_) return;
    }
    built = fresh.graph->Insert(fresh.table.data(), dimensions_);
  }
  if (!built.ok()) fresh.graph.reset();
  const std::lock_guard lock(mutex_);
  build_failed_ = !built.ok();
  CatchUp(fresh);
  std::swap(graphed_, fresh);
  building_ = false;
}

// Brings the copy up to what was added and removed since it was made.
void FaissIndexImpl::CatchUp(GraphedTable& fresh) const {
  for (const uint64_t id : changed_) {
    if (const auto stale = fresh.table.Find(id)) {
      if (*stale < fresh.covered()) {
        fresh.table.Bury(*stale);
      } else {
        fresh.table.Drop(*stale);
      }
    }
    if (const auto slot = graphed_.table.Find(id)) {
      fresh.table.Append(id, graphed_.table.vector(*slot));
    }
  }
}

// Takes all that is beside the graph into it, one vector at a time: a search waits for one.
void FaissIndexImpl::Extend() {
  while (true) {
    const std::lock_guard lock(mutex_);
    if (stopping_ || graphed_.covered() == graphed_.table.slots()) return;
    if (graphed_.graph->Insert(graphed_.table.data(), dimensions_).ok()) continue;
    // What cannot be extended cannot be used either: without it all is scanned.
    build_failed_ = true;
    graphed_.graph.reset();
    return;
  }
}

}  // namespace

std::unique_ptr<FaissIndex> CreateFaissIndex(int dimensions, const FaissIndexOptions& options) {
  return std::make_unique<FaissIndexImpl>(GraphedTable(dimensions), options);
}

absl::StatusOr<std::unique_ptr<FaissIndex>> LoadFaissIndex(const std::string& path, int dimensions,
                                                           const FaissIndexOptions& options) {
  ASSIGN_OR_RETURN(GraphedTable graphed, ReadIndexFile(path, dimensions));
  return std::make_unique<FaissIndexImpl>(std::move(graphed), options);
}

}  // namespace reprise
