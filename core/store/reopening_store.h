// ReopeningStore: a store that can be lost and come back, as the disk under it does.
//
// It hands calls on to the store that it has open. One that will not open, or whose folder
// has gone or filled up, gives kUnavailable; the next listing of its segments, which is how
// its user tries a store again, closes it and opens it anew.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "core/store/kv_store.h"

namespace reprise {

using StoreFactory = std::function<absl::StatusOr<std::unique_ptr<KvStore>>()>;

// `first` is what `open` came to; an error is what the first listing says, too. What Stats
// counts since opening is counted over all openings.
std::unique_ptr<KvStore> CreateReopeningStore(absl::StatusOr<std::unique_ptr<KvStore>> first,
                                              StoreFactory open);

}  // namespace reprise
