#include "server/admin_handlers.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/incremental_text.h"
#include "server/converters.h"
#include "server/status_map.h"

namespace reprise::server {
namespace {

namespace wire = admin::v1;

constexpr int kDefaultPage = 100;
constexpr int kMaxPage = 1000;
constexpr int kMaxNamed = 1000;  // prompts or ids of one request
constexpr int kMaxSample = 100;
constexpr size_t kPreviewBytes = 80;
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr int64_t kImportBytes = int64_t{64} << 20;  // of payload that are made durable together

const std::string& TenantOf(const CallFacts& call, const std::string& asked) {
  return asked.empty() ? call.tenant : asked;
}

absl::Status GoneBy(const CallFacts& call) {
  if (call.is_cancelled && call.is_cancelled()) {
    return absl::CancelledError("the caller cancelled the request");
  }
  return absl::OkStatus();
}

void SetTime(absl::Time from, google::protobuf::Timestamp* to) {
  const int64_t nanos = absl::ToUnixNanos(from);
  to->set_seconds(nanos / 1000000000);
  to->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

absl::Status CheckCount(absl::string_view field, int count, int most) {
  if (count <= most) return absl::OkStatus();
  return FieldViolation(field, absl::StrCat(count, ", expected at most ", most));
}

}  // namespace

std::string AdminHandlers::TextOf(const CacheEntry& entry, size_t max_bytes) const {
  IncrementalDetokenizer detokenizer(facts_.tokenizer);
  std::string text;
  for (const TokenId id : entry.ids) {
    std::string piece = detokenizer.Push(id);
    if (text.size() + piece.size() > max_bytes) return text;
    text += piece;
  }
  return text + detokenizer.Finish();
}

bool AdminHandlers::HasPrefix(const CacheEntry& entry, const std::string& prefix) const {
  IncrementalDetokenizer detokenizer(facts_.tokenizer);
  std::string text;
  for (size_t i = 0; i < entry.ids.size() && text.size() < prefix.size(); ++i) {
    text += detokenizer.Push(entry.ids[i]);
  }
  return absl::StartsWith(text, prefix);
}

void AdminHandlers::Fill(const CacheEntry& entry, wire::CacheEntry& out) const {
  out.set_entry_id(entry.id);
  out.set_namespace_name(entry.cache_namespace);
  out.set_prompt_id(entry.prompt_id);
  out.set_token_count(static_cast<int32_t>(entry.ids.size()));
  out.set_host_token_count(entry.host_tokens);
  out.set_disk_token_count(entry.disk_tokens);
  out.set_hit_count(entry.hit_count);
  out.set_pinned(entry.pinned);
  out.set_text_preview(TextOf(entry, kPreviewBytes));
  SetTime(entry.created, out.mutable_create_time());
  if (entry.last_used != absl::InfinitePast())
    SetTime(entry.last_used, out.mutable_last_use_time());
  if (entry.expires != absl::InfiniteFuture()) SetTime(entry.expires, out.mutable_expire_time());
}

absl::Status AdminHandlers::GetCacheStats(wire::GetCacheStatsResponse& response) {
  FillStats(engine_->GetCacheStats(), response);
  return absl::OkStatus();
}

absl::Status AdminHandlers::ListCacheEntries(const CallFacts& call,
                                             const wire::ListCacheEntriesRequest& request,
                                             wire::ListCacheEntriesResponse& response) {
  if (request.page_size() < 0) {
    return FieldViolation("page_size", absl::StrCat(request.page_size(), ", expected >= 0"));
  }
  const int size =
      request.page_size() == 0 ? kDefaultPage : std::min(request.page_size(), kMaxPage);
  EntryQuery query;
  query.tenant = request.tenant();
  ASSIGN_OR_RETURN(query.from, DecodeCursor(request.page_token()));
  if (request.has_pinned()) query.pinned = request.pinned();
  query.min_tokens = request.min_token_count();
  while (true) {
    RETURN_IF_ERROR(GoneBy(call));
    query.limit = static_cast<size_t>(size - response.entries_size());
    ASSIGN_OR_RETURN(const EntryPage page, engine_->ListEntries(query));
    for (const CacheEntry& entry : page.entries) {
      if (HasPrefix(entry, request.text_prefix())) Fill(entry, *response.add_entries());
    }
    if (!page.next) return absl::OkStatus();
    query.from = *page.next;
    if (response.entries_size() >= size) break;
  }
  response.set_next_page_token(EncodeCursor(query.from));
  return absl::OkStatus();
}

absl::Status AdminHandlers::ExplainCacheLookup(const CallFacts& call,
                                               const wire::ExplainCacheLookupRequest& request,
                                               wire::ExplainCacheLookupResponse& response) {
  CallFacts as = call;
  as.tenant = TenantOf(call, request.tenant());
  inference::v1::ExplainPromptRequest asked;
  *asked.mutable_prompt() = request.prompt();
  return generation_->ExplainPrompt(as, asked, *response.mutable_explanation());
}

absl::Status AdminHandlers::WarmCache(const CallFacts& call, const wire::WarmCacheRequest& request,
                                      wire::WarmCacheResponse& response) {
  RETURN_IF_ERROR(CheckCount("prompts", request.prompts_size(), kMaxNamed));
  CallFacts as = call;
  as.tenant = TenantOf(call, request.tenant());
  as.writes_at_once = true;
  for (const inference::v1::Prompt& prompt : request.prompts()) {
    inference::v1::GenerationSpec spec;
    *spec.mutable_prompt() = prompt;
    spec.set_max_output_tokens(0);
    spec.mutable_cache()->set_policy(inference::v1::CACHE_POLICY_USE);  // not the server's default
    inference::v1::Generation reply;
    RequestSummary summary;
    const auto ignore = [](const inference::v1::TokenChunk&) { return true; };
    RETURN_IF_ERROR(generation_->Generate(as, spec, ignore, reply, summary));
    response.set_prompt_token_count(response.prompt_token_count() +
                                    reply.usage().prompt_token_count());
    response.set_computed_token_count(response.computed_token_count() +
                                      reply.usage().computed_token_count());
  }
  const absl::Status flushed = engine_->Flush();
  if (absl::IsFailedPrecondition(flushed)) return absl::OkStatus();  // in memory, then
  RETURN_IF_ERROR(flushed);
  int64_t durable = 0;
  for (const inference::v1::Prompt& prompt : request.prompts()) {
    ASSIGN_OR_RETURN(const TokenizedPrompt tokens, Tokenize(prompt, facts_));
    const auto entry = engine_->DescribeEntry(as.tenant, tokens.ids);
    if (entry.ok()) durable += std::min<int64_t>(entry->disk_tokens, tokens.ids.size());
  }
  response.set_durable_token_count(durable);
  return absl::OkStatus();
}

absl::StatusOr<AdminHandlers::Selected> AdminHandlers::Select(
    const CallFacts& call, const wire::CacheEntrySelector& selector) {
  Selected selected{TenantOf(call, selector.tenant()), {}};
  if (selector.has_prompt()) {
    ASSIGN_OR_RETURN(TokenizedPrompt prompt, Tokenize(selector.prompt(), facts_));
    selected.ids = std::move(prompt.ids);
    return selected;
  }
  const std::string id =
      selector.has_prompt_id() ? absl::StrCat("p-", selector.prompt_id()) : selector.entry_id();
  if (id.empty()) {
    return FieldViolation("entry", "empty, expected one of entry_id, prompt_id and prompt");
  }
  ASSIGN_OR_RETURN(CacheEntry entry, engine_->FindEntry(selected.tenant, id));
  selected.ids = std::move(entry.ids);
  return selected;
}

absl::Status AdminHandlers::Mark(const Selected& entry, std::optional<bool> pinned,
                                 std::optional<absl::Duration> ttl, wire::CacheEntry& out) {
  RETURN_IF_ERROR(engine_->MarkEntry({entry.tenant, entry.ids, pinned, ttl}).status());
  ASSIGN_OR_RETURN(const CacheEntry now, engine_->DescribeEntry(entry.tenant, entry.ids));
  Fill(now, out);
  return absl::OkStatus();
}

absl::Status AdminHandlers::PinCacheEntry(const CallFacts& call,
                                          const wire::PinCacheEntryRequest& request,
                                          wire::PinCacheEntryResponse& response) {
  if (request.has_ttl()) {
    return absl::UnimplementedError("ttl: not supported; SetCacheEntryTtl lets an entry expire");
  }
  wire::CacheEntrySelector selector = request.entry();
  if (request.prompt_id() != 0) selector.set_prompt_id(request.prompt_id());
  ASSIGN_OR_RETURN(const Selected entry, Select(call, selector));
  return Mark(entry, request.pinned(), std::nullopt, *response.mutable_entry());
}

absl::Status AdminHandlers::SetCacheEntryTtl(const CallFacts& call,
                                             const wire::SetCacheEntryTtlRequest& request,
                                             wire::SetCacheEntryTtlResponse& response) {
  ASSIGN_OR_RETURN(const Selected entry, Select(call, request.entry()));
  absl::Duration ttl = absl::InfiniteDuration();
  if (request.has_ttl()) ttl = ToDuration(request.ttl());
  return Mark(entry, std::nullopt, ttl, *response.mutable_entry());
}

absl::StatusOr<std::vector<CacheEntry>> AdminHandlers::AllWithPrefix(
    const CallFacts& call, const std::string& tenant, const std::string& text_prefix) {
  EntryQuery query;
  query.tenant = tenant;
  query.limit = kMaxPage;
  std::vector<CacheEntry> all;
  while (true) {
    RETURN_IF_ERROR(GoneBy(call));
    ASSIGN_OR_RETURN(EntryPage page, engine_->ListEntries(query));
    for (CacheEntry& entry : page.entries) {
      if (HasPrefix(entry, text_prefix)) all.push_back(std::move(entry));
    }
    if (!page.next) return all;
    query.from = *page.next;
  }
}

absl::StatusOr<std::vector<CacheEntry>> AdminHandlers::Doomed(
    const CallFacts& call, const std::string& tenant,
    const wire::PurgeCacheEntriesRequest& request) {
  const bool by_text = request.all() || !request.text_prefix().empty();
  if (!by_text && request.entry_ids().empty()) {
    return FieldViolation("text_prefix", "empty, as are entry_ids and all; expected one of them");
  }
  RETURN_IF_ERROR(CheckCount("entry_ids", request.entry_ids_size(), kMaxNamed));
  std::vector<CacheEntry> doomed;
  if (by_text) {
    ASSIGN_OR_RETURN(doomed,
                     AllWithPrefix(call, tenant, request.all() ? "" : request.text_prefix()));
  }
  for (const std::string& id : request.entry_ids()) {
    ASSIGN_OR_RETURN(CacheEntry entry, engine_->FindEntry(tenant, id));
    const auto same = [&](const CacheEntry& other) { return other.id == entry.id; };
    if (std::none_of(doomed.begin(), doomed.end(), same)) doomed.push_back(std::move(entry));
  }
  return doomed;
}

absl::Status AdminHandlers::PurgeCacheEntries(const CallFacts& call,
                                              const wire::PurgeCacheEntriesRequest& request,
                                              wire::PurgeCacheEntriesResponse& response) {
  const std::string& tenant = TenantOf(call, request.tenant());
  // What is on its way to the store would arrive after the purge.
  if (request.force()) engine_->Flush().IgnoreError();
  ASSIGN_OR_RETURN(const std::vector<CacheEntry> doomed, Doomed(call, tenant, request));
  response.set_match_count(static_cast<int64_t>(doomed.size()));
  for (const CacheEntry& entry : doomed) {
    if (response.sample_size() < kMaxSample) Fill(entry, *response.add_sample());
    if (!request.force()) continue;
    ASSIGN_OR_RETURN(const PurgedEntry purged, engine_->PurgeEntry(tenant, entry.ids));
    response.set_purged_host_token_count(response.purged_host_token_count() + purged.host_tokens);
    response.set_purged_disk_token_count(response.purged_disk_token_count() + purged.disk_tokens);
  }
  return absl::OkStatus();
}

absl::Status AdminHandlers::ExportCacheEntries(const CallFacts& call,
                                               const wire::ExportCacheEntriesRequest& request,
                                               const PieceSink& send) {
  const std::string& tenant = TenantOf(call, request.tenant());
  RETURN_IF_ERROR(engine_->Flush());
  ASSIGN_OR_RETURN(const std::vector<CacheEntry> entries,
                   AllWithPrefix(call, tenant, request.text_prefix()));
  ArchiveWriter writer(engine_->GetArchiveFormat());
  const auto send_all = [&](const std::string& bytes) {
    bool read = true;
    for (size_t at = 0; at < bytes.size() && read; at += kPieceBytes) {
      wire::ExportCacheEntriesResponse piece;
      piece.set_data(bytes.substr(at, kPieceBytes));
      read = send(piece);
    }
    return read ? absl::OkStatus() : absl::CancelledError("the reader is gone");
  };
  RETURN_IF_ERROR(send_all(writer.Begin()));
  int64_t count = 0;
  std::set<std::vector<TokenId>> parts;  // several entries can have the same one in the store
  for (const CacheEntry& entry : entries) {
    RETURN_IF_ERROR(GoneBy(call));
    const auto archived = engine_->ReadEntry(tenant, entry.ids);
    // Evicted, damaged or never stored: it is no entry of the store.
    if (absl::IsNotFound(archived.status()) || absl::IsDataLoss(archived.status())) continue;
    RETURN_IF_ERROR(archived.status());
    const bool part = archived->ids.size() < entry.ids.size();
    if (part && !parts.insert(archived->ids).second) continue;
    RETURN_IF_ERROR(send_all(writer.Add(*archived)));
    ++count;
  }
  wire::ExportCacheEntriesResponse last;
  last.set_data(writer.End());
  last.set_digest(ToHex(writer.digest()));
  last.set_entry_count(count);
  return send(last) ? absl::OkStatus() : absl::CancelledError("the reader is gone");
}

absl::Status AdminHandlers::WriteBatch(Import& import, wire::ImportCacheEntriesResponse& response) {
  if (import.batch.entries.empty()) return absl::OkStatus();
  const auto count = static_cast<int64_t>(import.batch.entries.size());
  ImportBatch next{import.batch.tenant, {}, import.batch.bytes_before};
  ASSIGN_OR_RETURN(const Imported imported, engine_->WriteEntries(std::move(import.batch)));
  next.bytes_before += imported.bytes;
  import = {std::move(next), 0};
  response.set_entry_count(response.entry_count() + count);
  response.set_added_token_count(response.added_token_count() + imported.tokens);
  return absl::OkStatus();
}

// What comes before damage stays.
absl::Status AdminHandlers::TakeEntries(ArchiveReader& reader, Import& import,
                                        wire::ImportCacheEntriesResponse& response) {
  while (true) {
    auto entry = reader.Next();
    if (!entry.ok()) RETURN_IF_ERROR(WriteBatch(import, response));
    RETURN_IF_ERROR(entry.status());
    if (!*entry) return absl::OkStatus();
    for (const std::vector<uint8_t>& payload : (*entry)->payloads) {
      import.bytes += static_cast<int64_t>(payload.size());
    }
    import.batch.entries.push_back(**std::move(entry));
    if (import.bytes >= kImportBytes) RETURN_IF_ERROR(WriteBatch(import, response));
  }
}

absl::Status AdminHandlers::ImportCacheEntries(const CallFacts& call, const PieceSource& next,
                                               wire::ImportCacheEntriesResponse& response) {
  ArchiveReader reader(engine_->GetArchiveFormat());
  Import import;
  import.batch.tenant = call.tenant;
  std::string digest;
  for (bool first = true; const auto piece = next(); first = false) {
    if (first) import.batch.tenant = TenantOf(call, piece->tenant());
    if (first) digest = piece->digest();
    reader.Push(piece->data());
    RETURN_IF_ERROR(TakeEntries(reader, import, response));
  }
  RETURN_IF_ERROR(WriteBatch(import, response));
  RETURN_IF_ERROR(GoneBy(call));
  if (!reader.done()) {
    return absl::DataLossError(
        absl::StrCat("archive: cut off, after entry ", response.entry_count()));
  }
  response.set_digest(ToHex(reader.digest()));
  if (digest.empty() || digest == response.digest()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("digest: the archive's is ", response.digest(), ", expected ", digest));
}

}  // namespace reprise::server
