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
  RETURN_IF_ERROR(SpecOf(mark.tenant).status());
  while (true) {
    // What is on its way to the store takes no marks any more.
    const bool flushed = Flush().ok();
    using Marked = std::optional<absl::StatusOr<MarkedEntry>>;
    const auto done = std::make_shared<std::promise<Marked>>();
    Post([this, mark, flushed, done] {
      const CacheNamespace& in = Open(*SpecOf(mark.tenant));
      const bool again = flushed && StoreOn() && in.disk.IsWriting(mark.ids);
      if (again) return done->set_value(std::nullopt);
      auto marked = MarkNow(mark);
      if (!marked.ok()) return done->set_value(std::move(marked));
      SaveUsage([done, marked](absl::Status stored) {
        done->set_value(stored.ok() ? marked : absl::StatusOr<MarkedEntry>(std::move(stored)));
      });
    });
    if (auto marked = done->get_future().get()) return *std::move(marked);
  }
}

absl::StatusOr<MarkedEntry> EngineImpl::MarkNow(const EntryMark& mark) {
  CacheNamespace& in = Open(*SpecOf(mark.tenant));
  MarkedEntry marked;
  marked.host_tokens = blocks_.MatchedTokens(in.id, mark.ids);
  if (StoreOn()) marked.disk_tokens = in.disk.MatchedTokens(mark.ids);
  const auto all = static_cast<int32_t>(mark.ids.size());
  if (const int32_t most = std::max(marked.host_tokens, marked.disk_tokens); most < all) {
    return absl::NotFoundError(
        absl::StrCat("ids: the cache holds ", most, " of ", all, " tokens of this entry"));
  }
  // Where one tier has the entry as it is, the other's may have become another that begins so.
  const bool host_own = blocks_.index(in.id).FindWhole(mark.ids).tokens == all;
  const bool disk_own = StoreOn() && in.disk.index().FindWhole(mark.ids).tokens == all;
  if (mark.pinned) {
    RETURN_IF_ERROR(PinInMemory(in, mark.ids, *mark.pinned));
    if (StoreOn()) in.disk.SetPinned(mark.ids, *mark.pinned);
    if (StoreOn() && !*mark.pinned) UnpinLoaded(in, mark.ids);
  }
  if (mark.ttl) {
    const absl::Time at = parts_.clock->Now() + *mark.ttl;
    if (host_own || !disk_own) blocks_.SetExpiry(in.id, mark.ids, at);
    if (StoreOn() && (disk_own || !host_own)) in.disk.SetExpiry(mark.ids, at);
  }
  return marked;
}

// The end of `ids` was loaded from `record`, whose marks go along. A pin that takes what others
// were promised holds in the store alone.
void EngineImpl::MarkLoaded(const SegmentRecord& record, absl::Span<const TokenId> ids) {
  const CacheNamespace& in = NamespaceOf(record.identity);
  if (record.pinned) PinInMemory(in, ids, true).IgnoreError();
  if (record.expires_unix_ms <= 0) return;
  blocks_.SetSegmentExpiry(in.id, ids, absl::FromUnixMillis(record.expires_unix_ms),
                           BlocksFor(static_cast<int32_t>(record.ids.size())));
}

// What was loaded from a pinned segment is pinned to its end, wherever in it the entry ends.
void EngineImpl::UnpinLoaded(const CacheNamespace& in, absl::Span<const TokenId> ids) {
  const PrefixIndex::Match found = in.disk.index().Find(ids);
  if (found.hits.empty() || found.tokens < static_cast<int32_t>(ids.size())) return;
  const std::vector<TokenId> path = in.disk.index().PathIds(found.hits.back().node);
  blocks_.SetPinned(in.id, path, false).IgnoreError();
}

// What is reused from memory counts as used on disk too: it would be loaded next time.
void EngineImpl::TouchOnDisk(CacheNamespace& in, const DiskCache::Match& disk, int32_t tokens) {
  size_t used = 0;
  while (used < disk.segments.size() && disk.segments[used].start_position < tokens) ++used;
  in.disk.Touch(absl::MakeConstSpan(disk.segments).subspan(0, used),
                absl::ToUnixMillis(parts_.clock->Now()));
}

// Lets the next start evict in the order that holds now, and keep the marks. What the store does
// not take is saved again with the next writes. `done`, if any, hears of it.
void EngineImpl::SaveUsage(std::function<void(absl::Status)> done) {
  std::vector<SegmentRecord> used;
  if (StoreOn()) {
    ForEachNamespace([&](CacheNamespace& in) {
      for (SegmentRecord& record : in.disk.TakeUsed()) used.push_back(std::move(record));
    });
  }
  if (used.empty()) return done ? done(absl::OkStatus()) : void();
  writer_->Post([this, used = std::move(used), done = std::move(done)] {
    absl::Status status = parts_.store->UpdateUsage(used);
    if (status.ok() && !done) return;
    Post([this, used, done, status = std::move(status)]() mutable {
      if (!status.ok()) {
        for (const SegmentRecord& each : used) NamespaceOf(each.identity).disk.SaveAgain(each.key);
        StoreFailed(StoreFailure::kWrite, status);
      }
      if (done) done(std::move(status));
    });
  });
}

void EngineImpl::DropExpired() {
  const absl::Time now = parts_.clock->Now();
  blocks_.DropExpired(now);
  if (!StoreOn()) return;
  ForEachNamespace([&](CacheNamespace& in) {
    const int64_t before = in.disk.payload_bytes();
    std::vector<SegmentKey> keys = in.disk.DropExpired(now);
    DeleteEvicted(std::move(keys), before - in.disk.payload_bytes());
  });
}

}  // namespace reprise
