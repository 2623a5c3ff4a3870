// The values that labels of metrics may have.
#pragma once

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/string_view.h"
#include "core/telemetry/metrics.h"

namespace reprise {

// Label values come from fixed lists, so that a label set cannot grow.
inline constexpr const char* kOther = "OTHER";
inline constexpr const char* kMethods[] = {
    "Generate",           "StreamGenerate",    "CountTokens",        "GetModel",
    "ExplainPrompt",      "GetCacheStats",     "ListCacheEntries",   "WarmCache",
    "PinCacheEntry",      "PurgeCacheEntries", "ExplainCacheLookup", "SetCacheEntryTtl",
    "ExportCacheEntries", "ImportCacheEntries"};
inline constexpr const char* kCodes[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
// What alerts divide (deploy/prometheus/alerts.yml): a rate over a series that begins with its
// first event does not see that event, so these begin at 0.
inline constexpr const char* kGenerationMethods[] = {"Generate", "StreamGenerate"};
inline constexpr const char* kAlertCodes[] = {"OK", "INTERNAL", "UNKNOWN", "DATA_LOSS",
                                              "RESOURCE_EXHAUSTED"};
inline constexpr const char* kFinishReasons[] = {"STOP", "STOP_SEQUENCE", "MAX_TOKENS",
                                                 "CONTEXT_LENGTH"};
inline constexpr const char* kModes[] = {"PREFIX", "SEMANTIC", "HYBRID"};
inline constexpr const char* kDecisions[] = {"REUSED", "PARTIAL", "RECOMPUTED", "MISS", "BYPASSED"};
inline constexpr const char* kReasons[] = {
    "NONE",           "FASTER_TO_LOAD",       "FORCED",
    "SLOWER_TO_LOAD", "BELOW_MINIMUM_DEPTH",  "LOAD_FAILED",
    "POLICY_BYPASS",  "FULL_PREFIX_REQUIRED", "COMPUTED_IN_FLIGHT",
    "FASTER_TO_SPLIT"};
inline constexpr const char* kMisses[] = {"CACHE_EMPTY", "DIVERGES", "NO_CANDIDATE",    "TOO_SHORT",
                                          "EVICTED",     "BYPASSED", "EMBEDDING_FAILED"};
// By StoreFailure.
inline constexpr const char* kOperations[] = {"open",   "read", "write",
                                              "delete", "list", "load_stalled"};
static_assert(std::size(kOperations) == static_cast<size_t>(StoreFailure::kLoadStalled) + 1);
inline constexpr const char* kCodecs[] = {"lossless", "int8"};
inline constexpr const char* kWriteSkips[] = {"no_benefit", "queue_full", "evicted", "no_room"};
static_assert(std::size(kWriteSkips) == static_cast<size_t>(WriteSkip::kNoRoom) + 1);

// By Preemption.
inline constexpr const char* kPreemptions[] = {"cache", "recompute"};
// By ShadowResult.
inline constexpr const char* kShadowResults[] = {"match", "mismatch", "skipped"};

template <size_t N>
std::string Bounded(const char* const (&allowed)[N], absl::string_view value) {
  const bool known = std::find(std::begin(allowed), std::end(allowed), value) != std::end(allowed);
  return known ? std::string(value) : kOther;
}

}  // namespace reprise
