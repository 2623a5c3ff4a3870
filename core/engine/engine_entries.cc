// What operators see and do of cached entries. All of it runs on the engine thread, so nothing
// a request uses changes under it, and in pieces, so that it holds no step up for long.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

constexpr size_t kMaxVisited = 128;  // leaves that one task looks at: a few milliseconds

// A few digits of a hash, so that an id of another time names nothing instead of another entry.
std::string Check(const CacheNamespace& in, absl::Span<const TokenId> ids) {
  return ToHex(DigestBuilder().Add("namespace", in.spec->identity).Add("ids", ids).Finish())
      .substr(0, 12);
}

}  // namespace

CacheEntry EngineImpl::EntryOf(const CacheNamespace& in, bool on_disk,
                               PrefixIndex::NodeId node) const {
  const PrefixIndex& index = on_disk ? in.disk.index() : blocks_.index(in.id);
  const EntryMarks& marks = on_disk ? in.disk.marks() : blocks_.marks(in.id);
  CacheEntry entry;
  entry.cache_namespace = in.spec->name;
  entry.ids = index.PathIds(node);
  entry.id = absl::StrCat(on_disk ? "d" : "h", "-", node, "-", Check(in, entry.ids));
  entry.pinned = marks.IsPathPinned(node);
  entry.expires = marks.ExpiryOf(node);
  entry.host_tokens = blocks_.MatchedTokens(in.id, entry.ids);
  if (StoreOn()) entry.disk_tokens = in.disk.MatchedTokens(entry.ids);
  if (!on_disk) entry.created = made_[static_cast<BlockId>(index.value(node))];
  const DiskCache::Match stored = in.disk.Find(entry.ids);
  if (StoreOn() && !stored.segments.empty()) {
    const SegmentRecord& last = stored.segments.back();
    if (on_disk) entry.created = absl::FromUnixMillis(last.created_unix_ms);
    entry.last_used = absl::FromUnixMillis(last.last_used_unix_ms);
    entry.hit_count = last.hit_count;
  }
  entry.prompt_id = in.prompts.IdOf(entry.ids).value_or(0);
  return entry;
}

// Adds entries of one tier of a namespace from `page.next` on; false: there is no more in it.
bool EngineImpl::ListTier(const EntryQuery& query, const CacheNamespace& in, size_t& visited,
                          EntryPage& page) const {
  EntryCursor& at = *page.next;
  const PrefixIndex& index = at.on_disk ? in.disk.index() : blocks_.index(in.id);
  std::optional<PrefixIndex::Place> below;
  if (at.begun) below = {at.tick, at.node};
  bool more = false;
  index.VisitLeavesNewestFirst(below, [&](const PrefixIndex::Place& place) {
    more = page.entries.size() >= query.limit || visited >= kMaxVisited;
    if (more) return false;
    ++visited;
    at.begun = true;
    at.tick = place.tick;
    at.node = place.node;
    CacheEntry entry = EntryOf(in, at.on_disk, place.node);
    const auto size = static_cast<int32_t>(entry.ids.size());
    // Each entry once: where the store has more of it than memory, as the store has it.
    const bool elsewhere =
        at.on_disk ? entry.host_tokens == size : StoreOn() && in.disk.HoldsMoreThan(entry.ids);
    const bool wanted =
        size >= query.min_tokens && (!query.pinned || entry.pinned == *query.pinned);
    if (wanted && !elsewhere) page.entries.push_back(std::move(entry));
    return true;
  });
  return more;
}

absl::StatusOr<EntryPage> EngineImpl::ListNow(const EntryQuery& query) const {
  std::optional<size_t> only;
  if (!query.tenant.empty()) {
    ASSIGN_OR_RETURN(only, SpecOf(query.tenant));
  }
  EntryPage page;
  page.next = query.from;
  size_t visited = 0;
  for (; page.next->spec < namespaces_.size(); *page.next = {page.next->spec + 1}) {
    const size_t spec = page.next->spec;
    if (namespaces_[spec] == nullptr || (only && *only != spec)) continue;
    if (!page.next->on_disk) {
      if (ListTier(query, *namespaces_[spec], visited, page)) return page;
      *page.next = {spec, true};
    }
    if (StoreOn() && ListTier(query, *namespaces_[spec], visited, page)) return page;
  }
  page.next.reset();
  return page;
}

absl::StatusOr<EntryPage> EngineImpl::ListEntries(const EntryQuery& query) {
  return OnEngine<absl::StatusOr<EntryPage>>([this, query] { return ListNow(query); });
}

absl::StatusOr<CacheEntry> EngineImpl::FindEntry(const std::string& tenant, const std::string& id) {
  const std::vector<std::string> parts = absl::StrSplit(id, '-');
  const bool is_prompt = parts.size() == 2 && parts[0] == "p";
  uint64_t node = 0;
  const bool formed = (parts.size() == 3 && (parts[0] == "h" || parts[0] == "d")) || is_prompt;
  if (!formed || !absl::SimpleAtoi(parts[1], &node) || node == PrefixIndex::kRoot) {
    return absl::InvalidArgumentError("entry_id: malformed, expected one that a list gave");
  }
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(tenant));
  return OnEngine<absl::StatusOr<CacheEntry>>([&]() -> absl::StatusOr<CacheEntry> {
    const CacheNamespace& in = Open(spec);
    if (is_prompt) {
      const std::vector<TokenId>* ids = in.prompts.Find(node);
      if (ids != nullptr) return DescribeNow(in, *ids);
      return absl::NotFoundError(absl::StrCat("prompt_id: ", node, " is no prompt of ", tenant));
    }
    const bool on_disk = parts[0] == "d";
    const PrefixIndex& index = on_disk ? in.disk.index() : blocks_.index(in.id);
    if (index.Contains(node)) {
      CacheEntry entry = EntryOf(in, on_disk, node);
      if (entry.id == id) return entry;
    }
    return absl::NotFoundError(absl::StrCat("entry_id: \"", id, "\" is no entry of ", tenant));
  });
}

absl::StatusOr<CacheEntry> EngineImpl::DescribeNow(const CacheNamespace& in,
                                                   absl::Span<const TokenId> ids) const {
  const PrefixIndex::Match host = blocks_.index(in.id).Find(ids);
  const PrefixIndex::Match disk = StoreOn() ? in.disk.index().Find(ids) : PrefixIndex::Match();
  const bool on_disk = disk.tokens > host.tokens;
  const PrefixIndex::Match& most = on_disk ? disk : host;
  if (most.hits.empty()) return absl::NotFoundError("entry: the cache holds nothing of it");
  return EntryOf(in, on_disk, most.hits.back().node);
}

absl::StatusOr<CacheEntry> EngineImpl::DescribeEntry(const std::string& tenant,
                                                     absl::Span<const TokenId> ids) {
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(tenant));
  return OnEngine<absl::StatusOr<CacheEntry>>([&] { return DescribeNow(Open(spec), ids); });
}

absl::StatusOr<PurgedEntry> EngineImpl::PurgeEntry(const std::string& tenant,
                                                   absl::Span<const TokenId> ids) {
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(tenant));
  return OnEngine<absl::StatusOr<PurgedEntry>>([&]() -> absl::StatusOr<PurgedEntry> {
    if (parts_.store != nullptr && !StoreOn()) {
      return absl::FailedPreconditionError(
          "the store is off: what it holds of the entry would come back with it");
    }
    CacheNamespace& in = Open(spec);
    PurgedEntry purged;
    purged.host_tokens = blocks_.Purge(in.id, ids);
    const int64_t tokens = in.disk.cached_tokens(), bytes = in.disk.payload_bytes();
    if (StoreOn()) {
      std::vector<SegmentKey> keys = in.disk.Purge(ids);
      DeleteEvicted(std::move(keys), bytes - in.disk.payload_bytes());
    }
    purged.disk_tokens = static_cast<int32_t>(tokens - in.disk.cached_tokens());
    ForgetPurgedPrompts(in, ids);
    return purged;
  });
}

}  // namespace reprise
