#include "core/similarity/faiss_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/similarity/vector_check.h"

namespace reprise {
namespace {

constexpr uint32_t kMagic = 0x58465052;  // "RPFX"
constexpr uint32_t kVersion = 2;

struct FileHeader {
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  uint64_t dimensions = 0;
  uint64_t slots = 0;
  uint64_t covered = 0;  // by the graph
  Checksum128 checksum;  // over all that follows
};

template <typename T>
ByteView BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
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

absl::Status CannotRead(const std::string& path) {
  return absl::UnavailableError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return absl::NotFoundError(absl::StrCat("no file ", path));
  if (fd < 0) return CannotRead(path);
  absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat facts {};
  if (fstat(fd, &facts) != 0) return CannotRead(path);
  std::string bytes(static_cast<size_t>(facts.st_size), '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t n = read(fd, bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return CannotRead(path);
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

absl::Status CheckHeader(const FileHeader& header, int dimensions, uint64_t body_bytes) {
  if (header.magic != kMagic || header.version != kVersion) {
    return absl::DataLossError("no vector index of this version");
  }
  if (header.dimensions != static_cast<uint64_t>(dimensions)) {
    return absl::DataLossError(
        absl::StrCat(header.dimensions, " dimensions, expected ", dimensions));
  }
  const uint64_t slot_bytes = sizeof(uint64_t) + 1 + header.dimensions * sizeof(float);
  if (header.slots > body_bytes / slot_bytes || header.covered > header.slots) {
    return absl::DataLossError("the size does not fit the count");
  }
  return absl::OkStatus();
}

// The slots of a body whose size fits the header.
absl::Status ReadSlots(const FileHeader& header, ByteReader& body, VectorTable& table) {
  const auto dimensions = static_cast<size_t>(header.dimensions);
  ASSIGN_OR_RETURN(const ByteView ids, body.ReadBytes(header.slots * sizeof(uint64_t)));
  ASSIGN_OR_RETURN(const ByteView dead, body.ReadBytes(header.slots));
  ASSIGN_OR_RETURN(const ByteView vectors,
                   body.ReadBytes(header.slots * dimensions * sizeof(float)));
  table.Reserve(static_cast<int64_t>(header.slots));
  std::vector<float> vector(dimensions);
  for (uint64_t i = 0; i < header.slots; ++i) {
    uint64_t id = 0;
    std::memcpy(&id, ids.data() + i * sizeof(id), sizeof(id));
    std::memcpy(vector.data(), vectors.data() + i * dimensions * sizeof(float),
                dimensions * sizeof(float));
    const absl::Status fits = CheckVector(vector, static_cast<int>(dimensions));
    if (!fits.ok()) return absl::DataLossError(absl::StrCat("id ", id, ": ", fits.message()));
    if (dead[i] == 0 && table.Find(id)) {
      return absl::DataLossError(absl::StrCat("id ", id, " is there twice"));
    }
    if (dead[i] > 1 || (dead[i] == 1 && i >= header.covered)) {
      return absl::DataLossError(absl::StrCat("id ", id, " is a tombstone outside of the graph"));
    }
    if (dead[i] == 1) {
      table.AppendDead(id, vector);
    } else {
      table.Append(id, vector);
    }
  }
  return absl::OkStatus();
}

absl::Status Parse(ByteView bytes, GraphedTable& graphed) {
  ByteReader reader(bytes);
  ASSIGN_OR_RETURN(const auto header, reader.Read<FileHeader>());
  RETURN_IF_ERROR(CheckHeader(header, graphed.table.dimensions(), reader.remaining()));
  if (Xxh3Checksum({bytes.subspan(reader.offset())}) != header.checksum) {
    return absl::DataLossError("checksum mismatch");
  }
  RETURN_IF_ERROR(ReadSlots(header, reader, graphed.table));
  if (header.covered == 0) {
    if (reader.remaining() == 0) return absl::OkStatus();
    return absl::DataLossError("bytes behind the last vector");
  }
  ASSIGN_OR_RETURN(const ByteView graph, reader.ReadBytes(reader.remaining()));
  ASSIGN_OR_RETURN(graphed.graph,
                   ProximityGraph::Parse(graph, static_cast<int64_t>(header.covered)));
  return absl::OkStatus();
}

}  // namespace

std::string SerializeTable(const GraphedTable& graphed) {
  const VectorTable& table = graphed.table;
  FileHeader header;
  header.dimensions = static_cast<uint64_t>(table.dimensions());
  header.slots = static_cast<uint64_t>(table.slots());
  header.covered = static_cast<uint64_t>(graphed.covered());
  const std::string graph = graphed.graph ? graphed.graph->Serialize() : "";
  const ByteView parts[] = {BytesOf(table.ids()), table.dead_flags(), BytesOf(table.vectors()),
                            AsBytes(graph)};
  header.checksum = Xxh3Checksum(parts);
  std::string out;
  out.reserve(sizeof(header) + parts[0].size() + parts[1].size() + parts[2].size() + graph.size());
  out.append(reinterpret_cast<const char*>(&header), sizeof(header));
  for (const ByteView part : parts) {
    out.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return out;
}

absl::Status WriteIndexFile(const std::string& path, const std::string& bytes) {
  const std::string temporary = path + ".new";
  RETURN_IF_ERROR(WriteSynced(temporary, bytes));
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename to ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<GraphedTable> ReadIndexFile(const std::string& path, int dimensions) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(path));
  GraphedTable graphed(dimensions);
  const absl::Status parsed = Parse(AsBytes(bytes), graphed);
  if (parsed.ok()) return graphed;
  return absl::DataLossError(absl::StrCat(path, ": ", parsed.message()));
}

}  // namespace reprise
