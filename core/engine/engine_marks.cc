#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"

namespace reprise {

absl::StatusOr<MarkedEntry> EngineImpl::MarkEntry(const EntryMark& mark) {
  if (mark.ids.empty()) {
    return absl::InvalidArgumentError("ids: empty, expected at least one token");
  }
  if (mark.ttl && *mark.ttl <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("ttl: ", absl::FormatDuration(*mark.ttl), ", expected more than zero"));
  }
  const auto marked = std::make_shared<std::promise<absl::StatusOr<MarkedEntry>>>();
  Post([this, mark, marked] { marked->set_value(MarkNow(mark)); });
  return marked->get_future().get();
}

absl::StatusOr<MarkedEntry> EngineImpl::MarkNow(const EntryMark& mark) {
  MarkedEntry marked;
  marked.host_tokens = blocks_.MatchedTokens(mark.ids);
  if (StoreOn()) marked.disk_tokens = disk_.MatchedTokens(mark.ids);
  const auto all = static_cast<int32_t>(mark.ids.size());
  if (const int32_t most = std::max(marked.host_tokens, marked.disk_tokens); most < all) {
    return absl::NotFoundError(
        absl::StrCat("ids: the cache holds ", most, " of ", all, " tokens of this entry"));
  }
  if (mark.pinned) {
    RETURN_IF_ERROR(blocks_.SetPinned(mark.ids, *mark.pinned).status());
    if (StoreOn()) disk_.SetPinned(mark.ids, *mark.pinned);
  }
  if (mark.ttl) {
    const absl::Time at = parts_.clock->Now() + *mark.ttl;
    blocks_.SetExpiry(mark.ids, at);
    if (StoreOn()) disk_.SetExpiry(mark.ids, at);
  }
  SaveUsage();  // the store keeps the marks in its records
  return marked;
}

void EngineImpl::DropExpired() {
  const absl::Time now = parts_.clock->Now();
  blocks_.DropExpired(now);
  if (!StoreOn()) return;
  const int64_t before = disk_.payload_bytes();
  std::vector<SegmentKey> keys = disk_.DropExpired(now);
  if (keys.empty()) return;
  parts_.metrics->SegmentsEvicted(static_cast<int64_t>(keys.size()),
                                  before - disk_.payload_bytes());
  DeleteFromStore(std::move(keys));
}

}  // namespace reprise
