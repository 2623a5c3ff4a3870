// MemoryStore: a KvStore without durability, for tests and as the oracle of
// RocksDbStore. It holds encoded segments, so verification is the same code.
#pragma once

#include <memory>

#include "core/store/kv_store.h"

namespace reprise {

std::unique_ptr<KvStore> CreateMemoryStore();

}  // namespace reprise
