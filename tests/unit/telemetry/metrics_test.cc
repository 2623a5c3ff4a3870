#include "core/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/unit/telemetry/exposition.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, EveryFamilyHasHelpTypeAndAProperName) {
  Metrics metrics;
  RecordEverything(metrics);
  const auto families = ParseExposition(metrics.Serialize());
  ASSERT_GT(families.size(), 40u);
  for (const auto& [name, family] : families) {
    EXPECT_TRUE(absl::StartsWith(name, "reprise_")) << name;
    EXPECT_FALSE(absl::StrContains(name, ":")) << name << ": colons are for recording rules";
    EXPECT_GT(family.help.size(), 3u) << name;
    EXPECT_FALSE(family.samples.empty()) << name;
    EXPECT_EQ(absl::EndsWith(name, "_total"), family.type == "counter") << name;
    if (family.type == "histogram") {
      EXPECT_TRUE(absl::EndsWith(name, "_seconds")) << name;
    }
    EXPECT_THAT((std::set<std::string>{"counter", "gauge", "histogram"}),
                ::testing::Contains(family.type));
    for (const std::string& word : std::vector<std::string>(absl::StrSplit(name, '_'))) {
      EXPECT_THAT((std::set<std::string>{"ms", "us", "ns", "milliseconds", "microseconds",
                                         "minutes", "kb", "mb", "mib", "kilobytes", "percent"}),
                  Not(::testing::Contains(word)))
          << name << " is not in base units";
    }
  }
}

TEST(MetricsTest, HistogramsAreCumulativeAndEndAtInfinity) {
  Metrics metrics;
  RecordEverything(metrics);
  for (const auto& [name, family] : ParseExposition(metrics.Serialize())) {
    if (family.type != "histogram") continue;
    double last = 0, infinite = -1, count = -2;
    for (const Sample& sample : family.samples) {
      if (sample.name == name + "_count") count = sample.value;
      if (sample.name != name + "_bucket") continue;
      EXPECT_GE(sample.value, last) << name;
      last = sample.value;
      if (sample.labels.at("le") == "+Inf") infinite = sample.value;
    }
    EXPECT_EQ(count, 1) << name;
    EXPECT_EQ(infinite, count) << name;
  }
}

TEST(MetricsTest, CountersEqualWhatWasRecorded) {
  Metrics metrics;
  RecordEverything(metrics);
  metrics.RequestFinished(FullSummary());
  const std::pair<const char*, double> expected[] = {
      {"reprise_requests_started_total", 1},
      {"reprise_requests_total", 2},
      {"reprise_finish_reasons_total", 2},
      {"reprise_reuse_decisions_total", 2},
      {"reprise_reuse_reasons_total", 2},
      {"reprise_cache_misses_total", 2},
      {"reprise_prompt_tokens_total", 200},
      {"reprise_cached_prompt_tokens_total", 120},
      {"reprise_computed_prompt_tokens_total", 80},
      {"reprise_in_flight_prompt_tokens_total", 30},
      {"reprise_split_prompt_tokens_total", 32},
      {"reprise_ideal_prompt_tokens_total", 128},
      {"reprise_output_tokens_total", 14},
      {"reprise_speculation_draft_tokens_total", 18},
      {"reprise_speculation_accepted_tokens_total", 10},
      {"reprise_request_disk_read_bytes_total", 8192},
      {"reprise_queue_seconds_sum", 0.002},
      {"reprise_tokenize_seconds_sum", 0.004},
      {"reprise_lookup_seconds_sum", 0.006},
      {"reprise_load_seconds_sum", 0.008},
      {"reprise_prefill_seconds_sum", 0.010},
      {"reprise_time_to_first_token_seconds_sum", 0.012},
      {"reprise_decode_seconds_sum", 0.014},
      {"reprise_request_seconds_sum", 0.016},
      {"reprise_predicted_load_seconds_sum", 0.018},
      {"reprise_predicted_prefill_seconds_sum", 0.020},
      {"reprise_actual_load_seconds_sum", 0.022},
      {"reprise_predicted_cold_prefill_seconds_sum", 0.024},
      {"reprise_entry_age_seconds_sum", 0.026},
      {"reprise_shared_wait_seconds_sum", 0.030},
      {"reprise_predicted_total_seconds_sum", 0.032},
      {"reprise_step_prefill_tokens_total", 3},
      {"reprise_step_decode_tokens_total", 2},
      {"reprise_step_seconds_sum", 0.005},
      {"reprise_inter_token_seconds_sum", 0.006},
      {"reprise_preemptions_total", 1},
      {"reprise_queued_requests", 1},
      {"reprise_running_sequences", 2},
      {"reprise_host_blocks", 16},
      {"reprise_host_used_blocks", 4},
      {"reprise_host_cached_blocks", 5},
      {"reprise_host_usage_ratio", 0.25},
      {"reprise_host_block_bytes", 6},
      {"reprise_memory_bytes", 1400 + 1500 + 12},
      {"reprise_store_pending_segments", 7},
      {"reprise_similarity_vectors", 8},
      {"reprise_store_enabled", 1},
      {"reprise_store_segments", 9},
      {"reprise_store_payload_bytes", 10},
      {"reprise_store_disk_bytes", 11},
      {"reprise_store_limit_bytes", 13},
      {"reprise_store_free_bytes", 14},
      {"reprise_process_cpu_seconds_total", 1.5},
      {"reprise_process_start_time_seconds", 2.5},
      {"reprise_process_resident_memory_bytes", 30},
      {"reprise_process_threads", 31},
      {"reprise_process_open_files", 32},
      {"reprise_process_open_files_limit", 33},
      {"reprise_process_major_page_faults_total", 34},
      {"reprise_machine_usable_cpus", 35},
      {"reprise_machine_memory_bytes", 36},
      {"reprise_machine_available_memory_bytes", 37},
      {"reprise_store_durable_segments_total", 12},
      {"reprise_store_written_bytes_total", 1200},
      {"reprise_store_read_bytes_total", 1300},
      {"reprise_store_read_seconds_sum", 0.007},
      {"reprise_store_corrupt_segments_total", 1},
      {"reprise_store_evicted_segments_total", 14},
      {"reprise_store_evicted_bytes_total", 1400},
      {"reprise_store_compressed_segments_total", 1},
      {"reprise_store_compression_saved_bytes_total", 1800},
      {"reprise_store_skipped_segments_total", 1},
      {"reprise_store_skipped_bytes_total", 1700},
      {"reprise_host_evicted_blocks_total", 15},
      {"reprise_store_failures_total", 1},
      {"reprise_embeddings_total", 1},
      {"reprise_embedding_seconds_sum", 0.008},
      {"reprise_embedding_failures_total", 1},
      {"reprise_shadow_verifications_total", 1},
      {"reprise_embeddings_dropped_total", 1},
      {"reprise_regret_seconds_total", 0.028},
      {"reprise_log_lines_dropped_total", 16},
      {"reprise_tenant_requests_total", 2},
      {"reprise_tenant_tokens_total", 214},
      {"reprise_namespace_bytes", 42},
      {"reprise_namespace_quota_bytes", 44},
      {"reprise_namespace_refused_segments_total", 1},
      {"reprise_build_info", 1},
      {"reprise_model_info", 1},
  };
  for (const auto& [name, value] : expected) {
    EXPECT_NEAR(SumOf(metrics, name), value, 1e-9) << name;
  }
  EXPECT_EQ(std::size(expected), ParseExposition(metrics.Serialize()).size())
      << "a family is not in this test";
}

TEST(MetricsTest, FailedAndReuselessRpcsCountOnlyWhatTheyHave) {
  Metrics metrics;
  RequestSummary failed = FullSummary();
  failed.code = "CANCELLED";
  metrics.RequestFinished(failed);
  EXPECT_EQ(SumOf(metrics, "reprise_prompt_tokens_total"), 100);
  EXPECT_EQ(SumOf(metrics, "reprise_finish_reasons_total"), 0);
  EXPECT_EQ(SumOf(metrics, "reprise_time_to_first_token_seconds_count"), 0);
  RequestSummary model;
  model.method = "GetModel";
  model.code = "OK";
  metrics.RequestFinished(model);
  EXPECT_EQ(SumOf(metrics, "reprise_requests_total"), 2);
  EXPECT_EQ(SumOf(metrics, "reprise_reuse_decisions_total"), 1);
}

TEST(MetricsTest, WhatAlertsDivideBeginsAtZero) {
  Metrics metrics;
  metrics.SetNamespaceGauges({{"alice", 1, 0, 1, 0}});
  const std::string text = metrics.Serialize();
  for (const char* method : {"Generate", "StreamGenerate"}) {
    for (const char* code : {"OK", "INTERNAL", "UNKNOWN", "DATA_LOSS", "RESOURCE_EXHAUSTED"}) {
      EXPECT_THAT(text, HasSubstr(absl::StrCat("reprise_requests_total{code=\"", code,
                                               "\",method=\"", method, "\"} 0")));
    }
  }
  EXPECT_THAT(text, HasSubstr("reprise_namespace_refused_segments_total{namespace=\"alice\"} 0"));
}

TEST(MetricsTest, OnlyConfiguredTenantsAreLabels) {
  Metrics metrics;
  metrics.SetTenants({"alice"});
  for (const char* tenant : {"alice", "mallory", ""}) {
    RequestSummary s = FullSummary();
    s.tenant = tenant;
    metrics.RequestFinished(s);
  }
  EXPECT_EQ(SumOf(metrics, "reprise_tenant_requests_total"), 1);
  EXPECT_THAT(metrics.Serialize(), HasSubstr("tenant=\"alice\""));
  EXPECT_THAT(metrics.Serialize(), Not(HasSubstr("mallory")));
}

TEST(MetricsTest, RequestThatEndedInTheQueueHasWaitedAndDecidedNothing) {
  Metrics metrics;
  RequestSummary late;
  late.method = "Generate";
  late.code = "DEADLINE_EXCEEDED";
  late.retrieval_mode = "HYBRID";
  late.prompt_tokens = 500;
  late.queue = absl::Seconds(9);
  metrics.RequestFinished(late);
  EXPECT_EQ(SumOf(metrics, "reprise_queue_seconds_sum"), 9);
  EXPECT_EQ(SumOf(metrics, "reprise_prompt_tokens_total"), 500);
  for (const char* name :
       {"reprise_computed_prompt_tokens_total", "reprise_reuse_decisions_total",
        "reprise_reuse_reasons_total", "reprise_cache_misses_total", "reprise_lookup_seconds_count",
        "reprise_load_seconds_count", "reprise_predicted_prefill_seconds_count"}) {
    EXPECT_EQ(SumOf(metrics, name), 0) << name;
  }
}

TEST(MetricsTest, ForeignLabelValuesShareOneLabelSetAndTenantIsNone) {
  Metrics metrics;
  for (int i = 0; i < 500; ++i) {
    RequestSummary s = FullSummary();
    for (std::string* field : {&s.method, &s.tenant, &s.code, &s.finish_reason, &s.retrieval_mode,
                               &s.decision, &s.reason, &s.miss_reason, &s.request_id}) {
      *field = absl::StrCat("foreign\"\n", i);
    }
    metrics.RequestStarted(s.method);
    metrics.RequestFinished(s);
    s.code = "OK";
    metrics.RequestFinished(s);
  }
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, Not(HasSubstr("foreign")));
  for (const auto& [name, family] : ParseExposition(text)) {
    EXPECT_FALSE(family.LabelNames().contains("tenant")) << name;
    EXPECT_LE(family.samples.size(), 26u) << name;
  }
}

TEST(MetricsTest, HitIsNoMissWithoutAReason) {
  Metrics metrics;
  RequestSummary hit = FullSummary();
  hit.miss_reason = "NONE";
  metrics.RequestFinished(hit);
  EXPECT_EQ(SumOf(metrics, "reprise_cache_misses_total"), 0);
  EXPECT_EQ(SumOf(metrics, "reprise_reuse_decisions_total"), 1);
}

TEST(MetricsTest, StoreFailuresAreCountedByTheirOperation) {
  Metrics metrics;
  const std::pair<StoreFailure, const char*> operations[] = {
      {StoreFailure::kOpen, "open"},   {StoreFailure::kRead, "read"},
      {StoreFailure::kWrite, "write"}, {StoreFailure::kDelete, "delete"},
      {StoreFailure::kList, "list"},   {StoreFailure::kLoadStalled, "load_stalled"}};
  for (const auto& [failure, name] : operations) {
    metrics.StoreFailed(failure);
    EXPECT_THAT(metrics.Serialize(), HasSubstr(absl::StrCat("{operation=\"", name, "\"} 1\n")));
  }
}

TEST(MetricsTest, CountersOfTheProcessNeverGoBack) {
  Metrics metrics;
  for (const double seconds : {2.0, 5.0, 4.0}) {
    ProcessUsage usage;
    usage.cpu_seconds = seconds;
    metrics.SetProcessUsage(usage);
  }
  EXPECT_EQ(SumOf(metrics, "reprise_process_cpu_seconds_total"), 5);
}

TEST(ProcessUsageTest, SaysWhatThisProcessTakes) {
  const ProcessUsage before = ReadProcessUsage();
  EXPECT_GE(before.threads, 1);
  EXPECT_GE(before.usable_cpus, 1);
  EXPECT_GT(before.resident_bytes, 1 << 20);
  EXPECT_GT(before.machine_memory_bytes, before.machine_available_bytes);
  EXPECT_GT(before.machine_available_bytes, 0);
  EXPECT_GE(before.open_files, 3);
  EXPECT_GT(before.open_files_limit, before.open_files);
  EXPECT_NEAR(before.start_time_seconds, absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()),
              3600);
  const std::ifstream file("/proc/self/stat");
  EXPECT_EQ(ReadProcessUsage().open_files, before.open_files + 1);
  volatile double sum = 0;
  while (ReadProcessUsage().cpu_seconds < before.cpu_seconds + 0.02) sum = sum + 1;
}

TEST(MetricsTest, FactsCannotForgeALine) {
  Metrics metrics;
  const std::string hostile = "a\"} 1\nreprise_forged_total 1\n\\";
  metrics.SetFacts({"1", hostile, "n", "i"});
  const auto families = ParseExposition(metrics.Serialize());
  EXPECT_FALSE(families.contains("reprise_forged_total"));
  EXPECT_EQ(families.at("reprise_model_info").samples.at(0).labels.at("model"), hostile);
}

}  // namespace
}  // namespace reprise
