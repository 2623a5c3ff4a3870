#include "core/similarity/brute_force_index.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "core/base/status_macros.h"
#include "core/similarity/vector_check.h"

namespace reprise {
namespace {

class BruteForceIndex final : public VectorIndex {
 public:
  explicit BruteForceIndex(int dimensions) : dimensions_(dimensions) {}

  absl::Status Add(uint64_t id, absl::Span<const float> vector) override {
    RETURN_IF_ERROR(CheckVector(vector, dimensions_));
    const std::lock_guard lock(mutex_);
    vectors_[id].assign(vector.begin(), vector.end());
    return absl::OkStatus();
  }

  absl::Status Remove(uint64_t id) override {
    const std::lock_guard lock(mutex_);
    vectors_.erase(id);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Neighbor>> Search(absl::Span<const float> query,
                                               int count) const override {
    RETURN_IF_ERROR(CheckVector(query, dimensions_));
    std::vector<Neighbor> neighbors;
    const std::shared_lock lock(mutex_);
    for (const auto& [id, vector] : vectors_) {
      float product = 0;
      for (int i = 0; i < dimensions_; ++i) product += query[i] * vector[i];
      neighbors.push_back({id, product});
    }
    SortNeighbors(neighbors, std::max(count, 0));
    return neighbors;
  }

  bool Contains(uint64_t id) const override {
    const std::shared_lock lock(mutex_);
    return vectors_.contains(id);
  }

  bool Holds(uint64_t id, absl::Span<const float> vector) const override {
    const std::shared_lock lock(mutex_);
    const auto found = vectors_.find(id);
    return found != vectors_.end() && absl::MakeConstSpan(found->second) == vector;
  }

  std::vector<uint64_t> Ids() const override {
    const std::shared_lock lock(mutex_);
    std::vector<uint64_t> ids;
    for (const auto& [id, vector] : vectors_) ids.push_back(id);
    return ids;
  }

  int64_t size() const override {
    const std::shared_lock lock(mutex_);
    return static_cast<int64_t>(vectors_.size());
  }
  int dimensions() const override { return dimensions_; }

  absl::Status Save(const std::string&) const override {
    return absl::UnimplementedError("the brute-force index lives in memory only");
  }

 private:
  const int dimensions_;
  mutable std::shared_mutex mutex_;  // guards what follows; ThreadSanitizer sees into it
  std::map<uint64_t, std::vector<float>> vectors_;
};

}  // namespace

std::unique_ptr<VectorIndex> CreateBruteForceIndex(int dimensions) {
  return std::make_unique<BruteForceIndex>(dimensions);
}

}  // namespace reprise
