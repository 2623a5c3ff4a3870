// The file of a FaissIndex: table and graph under a checksum of its own, so that a damaged
// one is refused before anything of it is used. Reading treats the bytes as hostile.
//
// Layout     little-endian; the header below, then u64 ids, u8 tombstone flags and f32
//            vectors by slot, then the graph (core/similarity/proximity_graph.h).
// Threading  pure functions but for the file.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/similarity/proximity_graph.h"
#include "core/similarity/vector_table.h"

namespace reprise {

// A graph, if there is one, covers the first slots of its table.
struct GraphedTable {
  explicit GraphedTable(int dimensions) : table(dimensions) {}

  VectorTable table;
  std::optional<ProximityGraph> graph;

  int64_t covered() const { return graph ? graph->size() : 0; }
};

std::string SerializeTable(const GraphedTable& graphed);

// Writes a temporary file, syncs it, renames it to `path`.
absl::Status WriteIndexFile(const std::string& path, const std::string& bytes);

// Errors as LoadFaissIndex.
absl::StatusOr<GraphedTable> ReadIndexFile(const std::string& path, int dimensions);

}  // namespace reprise
