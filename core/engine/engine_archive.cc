#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"

namespace reprise {

ArchiveFormat EngineImpl::GetArchiveFormat() const {
  return {parts_.meaning, parts_.runner->block_bytes(), parts_.runner->context_length()};
}

absl::StatusOr<ArchivedEntry> EngineImpl::ReadEntry(const std::string& tenant,
                                                    absl::Span<const TokenId> ids) {
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(tenant));
  bool on = false;
  const auto found = OnEngine<DiskCache::Match>([&] {
    on = StoreOn();
    return on ? Open(spec).disk.Find(ids) : DiskCache::Match();
  });
  if (!on) return absl::FailedPreconditionError("the store is off: it cannot be read");
  if (found.tokens < static_cast<int32_t>(ids.size()) || ids.empty()) {
    return absl::NotFoundError(
        absl::StrCat("the store holds ", found.tokens, " of ", ids.size(), " tokens of the entry"));
  }
  ArchivedEntry entry;
  for (const SegmentRecord& record : found.segments) {
    entry.ids.insert(entry.ids.end(), record.ids.begin(), record.ids.end());
    auto& payload = entry.payloads.emplace_back(static_cast<size_t>(
        SegmentPayloadBytes(GetArchiveFormat(), static_cast<int64_t>(record.ids.size()), 0)));
    RETURN_IF_ERROR(parts_.store->ReadSegment(record, absl::MakeSpan(payload)));
  }
  return entry;
}

absl::Status EngineImpl::CheckArchived(const ArchivedEntry& entry) const {
  const ArchiveFormat format = GetArchiveFormat();
  const auto tokens = static_cast<int64_t>(entry.ids.size());
  if (tokens < 1 || tokens > format.max_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids: ", tokens, " tokens, expected 1 to ", format.max_tokens));
  }
  for (const TokenId id : entry.ids) {
    if (id >= 0 && id < parts_.runner->vocabulary_size()) continue;
    return absl::InvalidArgumentError(absl::StrCat("ids: token id ", id, " is not in [0, ",
                                                   parts_.runner->vocabulary_size(), ")"));
  }
  const auto segments = static_cast<size_t>((tokens + kSegmentTokens - 1) / kSegmentTokens);
  bool fits = entry.payloads.size() == segments;
  for (size_t i = 0; fits && i < segments; ++i) {
    fits = static_cast<int64_t>(entry.payloads[i].size()) == SegmentPayloadBytes(format, tokens, i);
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError("payloads: not the size that the ids need");
}

// Hands the segments to the writer, within the namespace's quota.
absl::Status EngineImpl::StoreArchived(CacheNamespace& in, std::vector<SegmentWrite> writes) {
  for (SegmentWrite& write : writes) {
    const int64_t bytes = write.record.payload_bytes;
    if (!MakeRoomToWrite(in, bytes)) {
      parts_.metrics->SegmentOverQuota(in.spec->name);
      return absl::ResourceExhaustedError(
          absl::StrCat("a segment of ", bytes, " bytes, beside ", in.pending_bytes,
                       " on their way, expected at most ", in.spec->quota.disk_bytes,
                       ", which tenants[].max_disk_bytes allows ", in.spec->name));
    }
    pending_bytes_ += bytes;
    in.pending_bytes += bytes;
    in.disk.BeginWrite(write.record.key);
    writes_bytes_ += bytes;
    writes_.push_back(std::move(write));
  }
  FlushWrites();
  return absl::OkStatus();
}

absl::StatusOr<int32_t> EngineImpl::WriteEntry(const std::string& tenant, ArchivedEntry entry) {
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(tenant));
  RETURN_IF_ERROR(CheckArchived(entry));
  int32_t added = 0;
  const int64_t now = absl::ToUnixMillis(parts_.clock->Now());
  RETURN_IF_ERROR(OnEngine<absl::Status>([&]() -> absl::Status {
    if (!StoreOn()) return absl::FailedPreconditionError("the store is off: nothing can be kept");
    CacheNamespace& in = Open(spec);
    std::vector<SegmentWrite> writes;
    for (SegmentRecord& record : in.disk.Missing(entry.ids)) {
      SegmentWrite& write = writes.emplace_back();
      write.payload = std::move(entry.payloads[record.start_position / kSegmentTokens]);
      record.payload_bytes = static_cast<int64_t>(write.payload.size());
      record.created_unix_ms = record.last_used_unix_ms = now;
      added += static_cast<int32_t>(record.ids.size());
      write.record = std::move(record);
    }
    return StoreArchived(in, std::move(writes));
  }));
  RETURN_IF_ERROR(Flush());
  const auto held = OnEngine<int32_t>([&] { return Open(spec).disk.MatchedTokens(entry.ids); });
  if (held == static_cast<int32_t>(entry.ids.size())) return added;
  return absl::UnavailableError(
      absl::StrCat("the store took ", held, " of ", entry.ids.size(), " tokens"));
}

}  // namespace reprise
