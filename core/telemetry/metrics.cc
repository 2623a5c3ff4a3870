#include "core/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <vector>

#include "core/telemetry/buckets.h"
#include "core/telemetry/labels.h"
#include "core/telemetry/process_metrics.h"
#include "core/telemetry/tenant_metrics.h"

namespace reprise {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

struct Metrics::Impl {
  prometheus::Registry registry;
  TenantMetrics tenants{registry};
  ProcessMetrics process{registry};

  Family<Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  Counter& One(const char* name, const char* help) { return Counters(name, help).Add({}); }
  Gauge& Level(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  Family<Gauge>& Levels(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }
  Histogram& Times(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }

  Family<Counter>& started = Counters("reprise_requests_started_total", "RPCs begun.");
  Family<Counter>& requests = Counters("reprise_requests_total", "RPCs ended, by status code.");
  Family<Counter>& finishes =
      Counters("reprise_finish_reasons_total", "Generations ended, by finish reason.");
  Family<Counter>& decisions =
      Counters("reprise_reuse_decisions_total", "What was done about reuse.");
  Family<Counter>& reasons = Counters("reprise_reuse_reasons_total", "Why it was done.");
  Family<Counter>& misses = Counters("reprise_cache_misses_total", "Why nothing was reused.");

  Counter& prompt_tokens = One("reprise_prompt_tokens_total", "Prompt tokens.");
  Family<Counter>& cached_tokens =
      Counters("reprise_cached_prompt_tokens_total", "Prompt tokens reused, by tier.");
  Counter& computed_tokens = One("reprise_computed_prompt_tokens_total", "Prompt tokens computed.");
  Counter& ideal_tokens =
      One("reprise_ideal_prompt_tokens_total", "Prompt tokens that some tier held.");
  Counter& in_flight_tokens =
      One("reprise_in_flight_prompt_tokens_total",
          "Prompt tokens reused that another request computed while this one waited.");
  Counter& split_tokens = One("reprise_split_prompt_tokens_total",
                              "Prompt tokens computed while those after them were loaded.");
  Counter& output_tokens = One("reprise_output_tokens_total", "Tokens produced.");
  Counter& draft_tokens =
      One("reprise_speculation_draft_tokens_total", "Draft tokens verified by the model.");
  Counter& accepted_tokens =
      One("reprise_speculation_accepted_tokens_total", "Draft tokens that became output.");
  Counter& request_disk_bytes = One("reprise_request_disk_read_bytes_total",
                                    "Payload bytes that requests read from the store.");

  Histogram& queue = Times("reprise_queue_seconds", "Submission until taken up.", FineBuckets());
  Histogram& tokenize = Times("reprise_tokenize_seconds", "Text to token ids.", FineBuckets());
  Histogram& lookup = Times("reprise_lookup_seconds", "Finding what to reuse.", FineBuckets());
  Histogram& shared_wait =
      Times("reprise_shared_wait_seconds", "Waiting for a prefix that another request computes.",
            FineBuckets());
  Histogram& load = Times("reprise_load_seconds", "Exposed waiting for the store.", FineBuckets());
  Histogram& prefill =
      Times("reprise_prefill_seconds", "First prompt step to first token.", LatencyBuckets());
  Histogram& first_token = Times("reprise_time_to_first_token_seconds",
                                 "Handler entry to first token.", LatencyBuckets());
  Histogram& decode = Times("reprise_decode_seconds", "First to last token.", LatencyBuckets());
  Histogram& total =
      Times("reprise_request_seconds", "Handler entry to the end of an RPC.", LatencyBuckets());
  Histogram& inter_token =
      Times("reprise_inter_token_seconds", "Gap between two tokens.", LatencyBuckets());
  Histogram& step = Times("reprise_step_seconds", "One step of the model.", LatencyBuckets());
  Histogram& predicted_load =
      Times("reprise_predicted_load_seconds", "Predicted load of what was reused.", FineBuckets());
  Histogram& actual_load =
      Times("reprise_actual_load_seconds", "Actual load of what was reused.", FineBuckets());
  Histogram& predicted_prefill = Times("reprise_predicted_prefill_seconds",
                                       "Predicted prefill of what remained.", LatencyBuckets());
  Histogram& predicted_cold_prefill =
      Times("reprise_predicted_cold_prefill_seconds", "Predicted prefill of the whole prompt.",
            LatencyBuckets());
  Histogram& predicted_total = Times("reprise_predicted_total_seconds",
                                     "Predicted load and prefill together.", LatencyBuckets());
  Histogram& entry_age =
      Times("reprise_entry_age_seconds", "Age of the deepest reused entry.", AgeBuckets());
  Family<Counter>& shadows =
      Counters("reprise_shadow_verifications_total", "Reused KV computed again and compared.");
  Counter& regret = One("reprise_regret_seconds_total",
                        "Time lost against the alternative that was predicted to be slower.");

  Counter& step_prefill =
      One("reprise_step_prefill_tokens_total", "Prompt rows the model computed.");
  Counter& step_decode = One("reprise_step_decode_tokens_total", "Decode rows the model computed.");

  Family<Counter>& preemptions =
      Counters("reprise_preemptions_total", "Sequences that gave their blocks to older ones.");

  Counter& durable_segments = One("reprise_store_durable_segments_total", "Segments made durable.");
  Counter& written_bytes = One("reprise_store_written_bytes_total", "Payload bytes made durable.");
  Counter& read_bytes = One("reprise_store_read_bytes_total", "Payload bytes read and verified.");
  Histogram& read_time =
      Times("reprise_store_read_seconds", "Reading and verifying one segment.", FineBuckets());
  Counter& corrupt = One("reprise_store_corrupt_segments_total", "Segments refused as damaged.");
  Counter& evicted_segments =
      One("reprise_store_evicted_segments_total", "Segments evicted from the store.");
  Counter& evicted_segment_bytes =
      One("reprise_store_evicted_bytes_total", "Payload bytes evicted from the store.");
  Family<Counter>& compressed_segments =
      Counters("reprise_store_compressed_segments_total", "Segments written compressed.");
  Family<Counter>& compression_saved =
      Counters("reprise_store_compression_saved_bytes_total", "Bytes that compression saved.");
  Family<Counter>& skipped_segments =
      Counters("reprise_store_skipped_segments_total", "Segments that were not written.");
  Family<Counter>& skipped_segment_bytes =
      Counters("reprise_store_skipped_bytes_total", "Payload bytes that were not written.");
  Family<Counter>& store_failures =
      Counters("reprise_store_failures_total", "Failed store operations.");
  Counter& evicted_blocks =
      One("reprise_host_evicted_blocks_total", "Cached blocks evicted from memory.");
  Counter& embeddings = One("reprise_embeddings_total", "Sentence embeddings made.");
  Counter& embedding_failures =
      One("reprise_embedding_failures_total", "Sentence embeddings that failed.");
  Counter& embeddings_dropped =
      One("reprise_embeddings_dropped_total", "Prompts never embedded, too many waiting for it.");
  Histogram& embedding_time =
      Times("reprise_embedding_seconds", "Making one sentence embedding.", LatencyBuckets());
  Counter& log_dropped =
      One("reprise_log_lines_dropped_total", "Log lines dropped, the log being slow or full.");

  Family<Gauge>& memory = Levels("reprise_memory_bytes", "Memory, by use.");
  Gauge& store_buffers = memory.Add({{"use", "store_buffers"}});
  Gauge& queued = Level("reprise_queued_requests", "Requests waiting.");
  Gauge& running = Level("reprise_running_sequences", "Sequences being generated.");
  Gauge& pool_blocks = Level("reprise_host_blocks", "KV blocks of the pool.");
  Gauge& used_blocks = Level("reprise_host_used_blocks", "KV blocks held by anyone.");
  Gauge& cached_blocks = Level("reprise_host_cached_blocks", "KV blocks that hold indexed KV.");
  Gauge& cache_usage = Level("reprise_host_usage_ratio", "Held share of the KV blocks.");
  Gauge& block_bytes = Level("reprise_host_block_bytes", "Bytes of one KV block.");
  Gauge& pending = Level("reprise_store_pending_segments", "Segments waiting to be written.");
  Gauge& vectors = Level("reprise_similarity_vectors", "Sentence embeddings in the index.");
  Gauge& store_enabled = Level("reprise_store_enabled", "1 while the store is in use.");
  Gauge& store_segments = Level("reprise_store_segments", "Segments in the store.");
  Gauge& store_payload = Level("reprise_store_payload_bytes", "Live payload bytes in the store.");
  Gauge& store_disk = Level("reprise_store_disk_bytes", "Bytes of the store's files.");
  Gauge& store_limit = Level("reprise_store_limit_bytes", "Bytes that the store's files may take.");
  Gauge& store_free =
      Level("reprise_store_free_bytes", "Free bytes of the disk that the store is on.");
  Family<Gauge>& build_info = Levels("reprise_build_info", "This program; always 1.");
  Family<Gauge>& model_info = Levels("reprise_model_info", "The resident model; always 1.");
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {
  // Label sets that alerts and tables by tier ask for exist from the start, so that rates are right
  // from the first event; others appear with theirs.
  for (const char* method : kGenerationMethods) {
    for (const char* code : kAlertCodes) {
      impl_->requests.Add({{"method", method}, {"code", code}});
    }
  }
  for (const char* tier : {"device", "host", "disk"}) impl_->cached_tokens.Add({{"tier", tier}});
  for (const char* operation : kOperations) {
    impl_->store_failures.Add({{"operation", operation}});
  }
  for (const char* result : kShadowResults) impl_->shadows.Add({{"result", result}});
  for (const char* codec : kCodecs) {
    impl_->compressed_segments.Add({{"codec", codec}});
    impl_->compression_saved.Add({{"codec", codec}});
  }
  for (const char* kind : kPreemptions) impl_->preemptions.Add({{"kind", kind}});
  for (const char* reason : kWriteSkips) {
    impl_->skipped_segments.Add({{"reason", reason}});
    impl_->skipped_segment_bytes.Add({{"reason", reason}});
  }
}

Metrics::~Metrics() = default;

void Metrics::SetFacts(const ServerFacts& facts) {
  impl_->build_info.Add({{"version", facts.version}}).Set(1);
  impl_->model_info
      .Add({{"model", facts.model},
            {"numerics_id", facts.numerics_id},
            {"cache_identity", facts.identity}})
      .Set(1);
}

void Metrics::SetResidentMemory(const ResidentMemory& memory) {
  impl_->memory.Add({{"use", "weights"}}).Set(static_cast<double>(memory.weight_bytes));
  impl_->memory.Add({{"use", "encoder"}}).Set(static_cast<double>(memory.encoder_bytes));
}

void Metrics::RequestStarted(absl::string_view method) {
  impl_->started.Add({{"method", Bounded(kMethods, method)}}).Increment();
}

void Metrics::RequestFinished(const RequestSummary& s) {
  const auto seconds = [](absl::Duration d) { return absl::ToDoubleSeconds(d); };
  Impl& m = *impl_;
  m.requests.Add({{"method", Bounded(kMethods, s.method)}, {"code", Bounded(kCodes, s.code)}})
      .Increment();
  m.total.Observe(seconds(s.total));
  m.tenants.RequestFinished(s);
  if (s.retrieval_mode.empty()) return;
  m.prompt_tokens.Increment(s.prompt_tokens);
  m.cached_tokens.Add({{"tier", "device"}}).Increment(s.device_tokens);
  m.cached_tokens.Add({{"tier", "host"}}).Increment(s.host_tokens);
  m.cached_tokens.Add({{"tier", "disk"}}).Increment(s.disk_tokens);
  m.computed_tokens.Increment(s.computed_tokens);
  m.ideal_tokens.Increment(s.ideal_tokens);
  m.in_flight_tokens.Increment(s.in_flight_tokens);
  m.split_tokens.Increment(s.split_tokens);
  m.output_tokens.Increment(s.output_tokens);
  m.draft_tokens.Increment(s.draft_tokens);
  m.accepted_tokens.Increment(s.accepted_tokens);
  m.request_disk_bytes.Increment(static_cast<double>(s.disk_bytes_read));
  m.regret.Increment(seconds(s.regret));
  m.queue.Observe(seconds(s.queue));
  m.tokenize.Observe(seconds(s.tokenize));
  const bool decided = !s.decision.empty();
  if (decided || s.lookup > absl::ZeroDuration()) m.lookup.Observe(seconds(s.lookup));
  if (s.shared_wait > absl::ZeroDuration()) m.shared_wait.Observe(seconds(s.shared_wait));
  if (decided) CountReuse(m, s);
  if (s.code != "OK") return;
  m.finishes.Add({{"reason", Bounded(kFinishReasons, s.finish_reason)}}).Increment();
  m.prefill.Observe(seconds(s.prefill));
  m.first_token.Observe(seconds(s.time_to_first_token));
  m.decode.Observe(seconds(s.decode));
}

void Metrics::CountReuse(Impl& m, const RequestSummary& s) {
  const auto seconds = [](absl::Duration d) { return absl::ToDoubleSeconds(d); };
  m.decisions
      .Add({{"mode", Bounded(kModes, s.retrieval_mode)},
            {"decision", Bounded(kDecisions, s.decision)}})
      .Increment();
  m.reasons.Add({{"reason", Bounded(kReasons, s.reason)}}).Increment();
  if (s.miss_reason != "NONE") {
    m.misses.Add({{"reason", Bounded(kMisses, s.miss_reason)}}).Increment();
  }
  m.load.Observe(seconds(s.load));
  m.predicted_load.Observe(seconds(s.predicted_load));
  m.predicted_prefill.Observe(seconds(s.predicted_prefill));
  m.predicted_cold_prefill.Observe(seconds(s.predicted_cold_prefill));
  m.actual_load.Observe(seconds(s.actual_load));
  m.predicted_total.Observe(seconds(s.predicted_total));
  if (s.cached_tokens > 0) m.entry_age.Observe(seconds(s.entry_age));
}

void Metrics::StepFinished(int64_t prefill_tokens, int64_t decode_tokens, absl::Duration elapsed) {
  impl_->step_prefill.Increment(static_cast<double>(prefill_tokens));
  impl_->step_decode.Increment(static_cast<double>(decode_tokens));
  impl_->step.Observe(absl::ToDoubleSeconds(elapsed));
}

void Metrics::Preempted(Preemption kind) {
  impl_->preemptions.Add({{"kind", kPreemptions[static_cast<size_t>(kind)]}}).Increment();
}

void Metrics::InterTokenGap(absl::Duration gap) {
  impl_->inter_token.Observe(absl::ToDoubleSeconds(gap));
}

void Metrics::SetEngineGauges(const EngineGauges& g) {
  impl_->queued.Set(static_cast<double>(g.queued_requests));
  impl_->running.Set(static_cast<double>(g.running_sequences));
  impl_->pool_blocks.Set(static_cast<double>(g.pool_blocks));
  impl_->used_blocks.Set(static_cast<double>(g.used_blocks));
  impl_->cached_blocks.Set(static_cast<double>(g.cached_blocks));
  impl_->cache_usage.Set(g.pool_blocks > 0 ? static_cast<double>(g.used_blocks) /
                                                 static_cast<double>(g.pool_blocks)
                                           : 0.0);
  impl_->block_bytes.Set(static_cast<double>(g.block_bytes));
  impl_->pending.Set(static_cast<double>(g.pending_write_segments));
  impl_->vectors.Set(static_cast<double>(g.vectors));
}

void Metrics::SetStoreGauges(const StoreGauges& g) {
  impl_->store_enabled.Set(g.enabled ? 1 : 0);
  impl_->store_segments.Set(static_cast<double>(g.segments));
  impl_->store_payload.Set(static_cast<double>(g.payload_bytes));
  impl_->store_disk.Set(static_cast<double>(g.disk_bytes));
  impl_->store_buffers.Set(static_cast<double>(g.buffer_bytes));
  impl_->store_limit.Set(static_cast<double>(g.limit_bytes));
  impl_->store_free.Set(static_cast<double>(g.free_bytes));
}

void Metrics::SetProcessUsage(const ProcessUsage& usage) { impl_->process.Set(usage); }

void Metrics::SegmentsDurable(int64_t segments, int64_t bytes) {
  impl_->durable_segments.Increment(static_cast<double>(segments));
  impl_->written_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::SegmentRead(int64_t bytes, absl::Duration elapsed) {
  impl_->read_bytes.Increment(static_cast<double>(bytes));
  impl_->read_time.Observe(absl::ToDoubleSeconds(elapsed));
}

void Metrics::SegmentCorrupt() { impl_->corrupt.Increment(); }

void Metrics::SegmentsEvicted(int64_t segments, int64_t bytes) {
  impl_->evicted_segments.Increment(static_cast<double>(segments));
  impl_->evicted_segment_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::SegmentCompressed(absl::string_view codec, int64_t saved) {
  const std::string name = Bounded(kCodecs, codec);
  impl_->compressed_segments.Add({{"codec", name}}).Increment();
  impl_->compression_saved.Add({{"codec", name}}).Increment(static_cast<double>(saved));
}

void Metrics::SegmentSkipped(WriteSkip reason, int64_t bytes) {
  const char* name = kWriteSkips[static_cast<size_t>(reason)];
  impl_->skipped_segments.Add({{"reason", name}}).Increment();
  impl_->skipped_segment_bytes.Add({{"reason", name}}).Increment(static_cast<double>(bytes));
}

void Metrics::BlocksEvicted(int64_t blocks) {
  impl_->evicted_blocks.Increment(static_cast<double>(blocks));
}

void Metrics::SetTenants(const std::vector<std::string>& names) {
  impl_->tenants.SetTenants(names);
}

void Metrics::SetNamespaceGauges(const std::vector<NamespaceGauges>& gauges) {
  impl_->tenants.SetNamespaceGauges(gauges);
}

void Metrics::SegmentOverQuota(const std::string& cache_namespace) {
  impl_->tenants.SegmentOverQuota(cache_namespace);
}

void Metrics::StoreFailed(StoreFailure failure) {
  const char* operation = kOperations[static_cast<size_t>(failure)];
  impl_->store_failures.Add({{"operation", operation}}).Increment();
}

void Metrics::EmbeddingFinished(absl::Duration elapsed) {
  impl_->embeddings.Increment();
  impl_->embedding_time.Observe(absl::ToDoubleSeconds(elapsed));
}

void Metrics::EmbeddingFailed() { impl_->embedding_failures.Increment(); }

void Metrics::ShadowVerified(ShadowResult result) {
  impl_->shadows.Add({{"result", kShadowResults[static_cast<size_t>(result)]}}).Increment();
}

void Metrics::EmbeddingDropped() { impl_->embeddings_dropped.Increment(); }

void Metrics::LogLinesDropped(int64_t lines) {
  impl_->log_dropped.Increment(static_cast<double>(lines));
}

std::string Metrics::Serialize() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace reprise
