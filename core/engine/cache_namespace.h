// CacheNamespace: all that the cache holds for one tenant, or for the tenants that share
// a pool. Nothing is looked up, reused, explained or evicted across namespaces but
// where the pool or the disk is full and who holds most gives way.
//
// A namespace is made when its first request comes, or at start when the store has something
// of it; there are at most as many as are configured.
//
// Threading  the engine thread owns it; its vector index is searched by the embedding
//            thread. It lives as long as the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/engine/block_cache.h"
#include "core/engine/disk_cache.h"
#include "core/engine/prompt_directory.h"
#include "core/engine/write_admission.h"
#include "core/similarity/vector_index.h"

namespace reprise {

// Hard limits; 0: none of its own. Nothing is admitted that would go past them.
struct CacheQuota {
  int64_t host_bytes = 0;  // KV blocks of running requests and of the cache together
  int64_t disk_bytes = 0;  // payload, what is on its way to the store included
};

// A namespace as it is configured.
struct NamespaceSpec {
  std::string name;   // of the tenant, or of the pool that several share
  Digest identity{};  // root of its keys in the store; no two are alike
  CacheQuota quota;
  std::vector<std::string> tenants;  // whose requests it serves
};

struct CacheNamespace {
  CacheNamespace(NamespaceId id, const NamespaceSpec* spec, const EvictionOptions& eviction)
      : id(id), spec(spec), disk(spec->identity, eviction) {}

  const NamespaceId id;       // of its tree in the BlockCache
  const NamespaceSpec* spec;  // the engine's
  DiskCache disk;
  PromptDirectory prompts;
  WriteAdmission write_admission;
  std::unique_ptr<VectorIndex> vectors;  // null: no similarity search
  int64_t pending_bytes = 0;             // of payload on its way to the store
};

// What a namespace holds now.
struct NamespaceStats {
  std::string name;
  std::vector<std::string> tenants;
  CacheQuota quota;
  int64_t host_bytes = 0;         // of blocks of running requests and of the cache
  int64_t host_cached_bytes = 0;  // of these, indexed for reuse
  int64_t host_cached_tokens = 0;
  int64_t host_pinned_bytes = 0;
  int64_t disk_bytes = 0;  // payload
  int64_t disk_segments = 0;
  int64_t disk_cached_tokens = 0;
  int64_t pending_bytes = 0;
  int64_t prompt_count = 0;
  int64_t vector_count = 0;
};

}  // namespace reprise
