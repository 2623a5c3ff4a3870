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
    return on ? Open(spec).disk.FindEntry(ids) : DiskCache::Match();
  });
  if (!on) return absl::FailedPreconditionError("the store is off: it cannot be read");
  if (found.segments.empty()) {
    return absl::NotFoundError("the store holds nothing of the entry that no other begins with");
  }
  ArchivedEntry entry;
  for (const SegmentRecord& record : found.segments) {
    std::vector<uint8_t> payload(static_cast<size_t>(
        SegmentPayloadBytes(GetArchiveFormat(), static_cast<int64_t>(record.ids.size()), 0)));
    const absl::Status read = parts_.store->ReadSegment(record, absl::MakeSpan(payload));
    const bool lost = absl::IsDataLoss(read) || absl::IsNotFound(read);
    if (lost && !entry.ids.empty()) break;  // what comes before it can be used
    RETURN_IF_ERROR(read);
    entry.ids.insert(entry.ids.end(), record.ids.begin(), record.ids.end());
    entry.payloads.push_back(std::move(payload));
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

// Queues the segments, all or none, within the namespace's quota: its other entries give way.
absl::Status EngineImpl::StoreArchived(CacheNamespace& in, const ImportBatch& batch,
                                       std::vector<SegmentWrite> writes) {
  int64_t bytes = 0;
  std::vector<PrefixIndex::NodeId> kept;  // what the new segments hang from
  for (const SegmentWrite& write : writes) bytes += write.record.payload_bytes;
  for (const ArchivedEntry& entry : batch.entries) {
    const PrefixIndex::Match found = in.disk.index().FindWhole(entry.ids);
    if (!found.hits.empty()) kept.push_back(found.hits.back().node);
  }
  const int64_t quota = in.spec->quota.disk_bytes;
  const bool fits = quota == 0 || batch.bytes_before + bytes <= quota;
  if (!fits || !MakeRoomToWrite(in, bytes, kept)) {
    parts_.metrics->SegmentOverQuota(in.spec->name);
    return absl::ResourceExhaustedError(
        absl::StrCat("segments of ", batch.bytes_before + bytes, " bytes, beside ",
                     in.pending_bytes, " on their way, expected at most ", quota,
                     ", which tenants[].max_disk_bytes allows ", in.spec->name));
  }
  for (SegmentWrite& write : writes) {
    pending_bytes_ += write.record.payload_bytes;
    in.pending_bytes += write.record.payload_bytes;
    in.disk.BeginWrite(write.record.key);
    writes_bytes_ += write.record.payload_bytes;
    writes_.push_back(std::move(write));
  }
  return absl::OkStatus();
}

// The segments of the batch that are neither stored nor on their way, each once.
std::vector<SegmentWrite> EngineImpl::TakeArchived(const CacheNamespace& in, ImportBatch& batch) {
  std::vector<SegmentWrite> writes;
  absl::flat_hash_set<SegmentKey> taken;
  const int64_t now = absl::ToUnixMillis(parts_.clock->Now());
  for (ArchivedEntry& entry : batch.entries) {
    for (SegmentRecord& record : in.disk.Missing(entry.ids)) {
      if (!taken.insert(record.key).second) continue;
      SegmentWrite& write = writes.emplace_back();
      write.payload = std::move(entry.payloads[record.start_position / kSegmentTokens]);
      record.payload_bytes = static_cast<int64_t>(write.payload.size());
      record.created_unix_ms = record.last_used_unix_ms = now;
      write.record = std::move(record);
    }
  }
  return writes;
}

absl::StatusOr<Imported> EngineImpl::WriteEntries(ImportBatch batch) {
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(batch.tenant));
  for (const ArchivedEntry& entry : batch.entries) RETURN_IF_ERROR(CheckArchived(entry));
  Imported imported;
  RETURN_IF_ERROR(OnEngine<absl::Status>([&]() -> absl::Status {
    if (!StoreOn()) return absl::FailedPreconditionError("the store is off: nothing can be kept");
    CacheNamespace& in = Open(spec);
    std::vector<SegmentWrite> writes = TakeArchived(in, batch);
    for (const SegmentWrite& write : writes) {
      imported.tokens += static_cast<int64_t>(write.record.ids.size());
      imported.bytes += write.record.payload_bytes;
    }
    return StoreArchived(in, batch, std::move(writes));
  }));
  RETURN_IF_ERROR(Flush());
  const auto missing = OnEngine<size_t>([&] {
    const DiskCache& disk = Open(spec).disk;
    return std::count_if(batch.entries.begin(), batch.entries.end(), [&](const auto& entry) {
      return disk.MatchedTokens(entry.ids) < static_cast<int32_t>(entry.ids.size());
    });
  });
  if (missing == 0) return imported;
  return absl::UnavailableError(absl::StrCat("the store did not take all of ", missing, " of ",
                                             batch.entries.size(), " entries"));
}

}  // namespace reprise
