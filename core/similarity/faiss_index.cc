#include "core/similarity/faiss_index.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/impl/IDSelector.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/similarity/vector_check.h"

namespace reprise {
namespace {

constexpr uint32_t kMagic = 0x58465052;  // "RPFX"
constexpr uint32_t kVersion = 1;

struct FileHeader {
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  uint64_t dimensions = 0;
  uint64_t count = 0;
  Checksum128 checksum;  // over ids, then vectors
};

class FaissIndex final : public VectorIndex {
 public:
  explicit FaissIndex(int dimensions) : flat_(dimensions), index_(&flat_) {}

  absl::Status Add(uint64_t id, absl::Span<const float> vector) override {
    RETURN_IF_ERROR(CheckVector(vector, dimensions()));
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(RemoveLocked(id));
    const auto faiss_id = static_cast<faiss::Index::idx_t>(id);
    RETURN_IF_ERROR(Guard([&] { index_.add_with_ids(1, vector.data(), &faiss_id); }));
    ids_.insert(id);
    return absl::OkStatus();
  }

  absl::Status Remove(uint64_t id) override {
    absl::MutexLock lock(&mutex_);
    return RemoveLocked(id);
  }

  absl::StatusOr<std::vector<Neighbor>> Search(absl::Span<const float> query,
                                               int count) const override {
    RETURN_IF_ERROR(CheckVector(query, dimensions()));
    absl::ReaderMutexLock lock(&mutex_);
    if (count <= 0 || index_.ntotal == 0) return std::vector<Neighbor>();
    // FAISS orders equal similarities as it likes: ask for more until the last
    // place that counts differs from the first that is left out.
    for (int64_t wanted = int64_t{count} + 16;; wanted *= 2) {
      ASSIGN_OR_RETURN(std::vector<Neighbor> neighbors,
                       SearchLocked(query, std::min(wanted, index_.ntotal)));
      const bool all = wanted >= index_.ntotal;
      if (!all && neighbors.back().similarity == neighbors[count - 1].similarity) continue;
      SortNeighbors(neighbors, count);
      return neighbors;
    }
  }

  bool Contains(uint64_t id) const override {
    absl::ReaderMutexLock lock(&mutex_);
    return ids_.contains(id);
  }

  std::vector<uint64_t> Ids() const override {
    absl::ReaderMutexLock lock(&mutex_);
    return {ids_.begin(), ids_.end()};
  }

  int64_t size() const override {
    absl::ReaderMutexLock lock(&mutex_);
    return index_.ntotal;
  }
  int dimensions() const override { return static_cast<int>(flat_.d); }

  absl::Status Save(const std::string& path) const override;

 private:
  template <typename Call>
  static absl::Status Guard(Call call) {
    try {
      call();
      return absl::OkStatus();
    } catch (const std::exception& error) {
      return absl::InternalError(absl::StrCat("faiss: ", error.what()));
    }
  }

  absl::Status RemoveLocked(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ids_.erase(id) == 0) return absl::OkStatus();
    const auto faiss_id = static_cast<faiss::Index::idx_t>(id);
    return Guard([&] { index_.remove_ids(faiss::IDSelectorBatch(1, &faiss_id)); });
  }

  // The `count` nearest, 1 to ntotal of them, in FAISS's order.
  absl::StatusOr<std::vector<Neighbor>> SearchLocked(absl::Span<const float> query,
                                                     int64_t count) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    std::vector<float> similarities(count);
    std::vector<faiss::Index::idx_t> ids(count);
    RETURN_IF_ERROR(
        Guard([&] { index_.search(1, query.data(), count, similarities.data(), ids.data()); }));
    std::vector<Neighbor> neighbors(count);
    for (int64_t i = 0; i < count; ++i) {
      neighbors[i] = {static_cast<uint64_t>(ids[i]), similarities[i]};
    }
    return neighbors;
  }

  std::string Serialize() const;

  mutable absl::Mutex mutex_;
  faiss::IndexFlatIP flat_;
  faiss::IndexIDMap2 index_;  // over flat_; guarded by mutex_
  std::set<uint64_t> ids_ ABSL_GUARDED_BY(mutex_);
};

template <typename T>
ByteView BytesOf(const T* data, size_t count) {
  return {reinterpret_cast<const uint8_t*>(data), count * sizeof(T)};
}

std::string FaissIndex::Serialize() const {
  absl::ReaderMutexLock lock(&mutex_);
  FileHeader header;
  header.dimensions = static_cast<uint64_t>(flat_.d);
  header.count = static_cast<uint64_t>(index_.ntotal);
  const ByteView ids = BytesOf(index_.id_map.data(), index_.id_map.size());
  const ByteView vectors = BytesOf(flat_.get_xb(), header.count * header.dimensions);
  header.checksum = Xxh3Checksum({ids, vectors});
  return absl::StrCat(AsText(BytesOf(&header, 1)), AsText(ids), AsText(vectors));
}

absl::Status WriteSynced(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
  absl::Cleanup close_fd = [fd] { close(fd); };
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
    written += static_cast<size_t>(n);
  }
  if (fsync(fd) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot sync ", path));
  return absl::OkStatus();
}

absl::Status FaissIndex::Save(const std::string& path) const {
  const std::string temporary = path + ".new";
  RETURN_IF_ERROR(WriteSynced(temporary, Serialize()));
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename to ", path));
  }
  return absl::OkStatus();
}

absl::Status Damaged(const std::string& path, absl::string_view problem) {
  return absl::DataLossError(absl::StrCat(path, ": ", problem));
}

}  // namespace

std::unique_ptr<VectorIndex> CreateFaissIndex(int dimensions) {
  return std::make_unique<FaissIndex>(dimensions);
}

absl::StatusOr<std::unique_ptr<VectorIndex>> LoadFaissIndex(const std::string& path,
                                                            int dimensions) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  ByteReader reader(AsBytes(bytes));
  const auto header = reader.Read<FileHeader>();
  if (!header.ok() || header->magic != kMagic || header->version != kVersion) {
    return Damaged(path, "no vector index of this version");
  }
  if (header->dimensions != static_cast<uint64_t>(dimensions)) {
    return Damaged(path, absl::StrCat(header->dimensions, " dimensions, expected ", dimensions));
  }
  const uint64_t entry_bytes = sizeof(uint64_t) + header->dimensions * sizeof(float);
  if (reader.remaining() % entry_bytes != 0 || reader.remaining() / entry_bytes != header->count) {
    return Damaged(path, "the size does not fit the count");
  }
  const ByteView ids = *reader.ReadBytes(header->count * sizeof(uint64_t));
  const ByteView vectors = *reader.ReadBytes(reader.remaining());
  if (Xxh3Checksum({ids, vectors}) != header->checksum) return Damaged(path, "checksum mismatch");
  auto index = CreateFaissIndex(dimensions);
  for (uint64_t i = 0; i < header->count; ++i) {
    uint64_t id;
    std::memcpy(&id, ids.data() + i * sizeof(id), sizeof(id));
    std::vector<float> vector(dimensions);
    std::memcpy(vector.data(), vectors.data() + i * dimensions * sizeof(float),
                dimensions * sizeof(float));
    if (const absl::Status added = index->Add(id, vector); !added.ok()) {
      return Damaged(path, absl::StrCat("id ", id, ": ", added.message()));
    }
    if (index->size() != static_cast<int64_t>(i) + 1) {
      return Damaged(path, absl::StrCat("id ", id, " is there twice"));
    }
  }
  return index;
}

}  // namespace reprise
