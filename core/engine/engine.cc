#include "core/engine/engine.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"
#include "core/engine/store_gauges.h"

namespace reprise {
namespace {

// How long the engine sleeps when nothing happens; bounds how late it notices
// that it has been idle long enough to flush.
constexpr std::chrono::milliseconds kIdleWait{100};

// How late a caller of Explain that gives up is noticed.
constexpr std::chrono::milliseconds kExplainPoll{5};

// Among which the deepest of equally near ones is chosen.
constexpr int kExplainNeighbors = 8;

absl::Status CheckParts(const EngineParts& parts) {
  if (parts.runner != nullptr && parts.tokenizer != nullptr && parts.metrics != nullptr &&
      parts.clock != nullptr) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("the engine needs a runner, a tokenizer, metrics and a clock");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       EngineParts parts) {
  RETURN_IF_ERROR(CheckParts(parts));
  auto engine = std::make_unique<EngineImpl>(options, std::move(parts));
  RETURN_IF_ERROR(engine->Start());
  return engine;
}

EngineImpl::EngineImpl(const EngineOptions& options, EngineParts parts)
    : options_(options),
      parts_(std::move(parts)),
      blocks_(parts_.runner->num_blocks(), parts_.metrics, options.eviction),
      made_(parts_.runner->num_blocks()) {
  if (parts_.namespaces.empty()) parts_.namespaces = {{"default", parts_.identity, {}, {}}};
  namespaces_.resize(parts_.namespaces.size());
  queued_of_.resize(parts_.namespaces.size());
  for (size_t i = 0; i < parts_.namespaces.size(); ++i) {
    for (const std::string& tenant : parts_.namespaces[i].tenants) spec_of_tenant_[tenant] = i;
  }
  Open(0).vectors = std::move(parts_.vectors);
}

EngineImpl::~EngineImpl() {
  if (!thread_.joinable()) return;
  Drain(absl::ZeroDuration());
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_one();
  thread_.join();
}

absl::Status EngineImpl::Start() {
  RETURN_IF_ERROR(costs_.Calibrate(*parts_.runner, *parts_.clock));
  EvictionCosts eviction;
  eviction.per_depth = costs_.DepthCost();
  blocks_.SetCosts(eviction);
  eviction.load_per_token = costs_.LoadCost(parts_.runner->block_bytes() / kBlockTokens);
  disk_costs_ = eviction;
  ForEachNamespace([&](CacheNamespace& in) { in.disk.SetCosts(disk_costs_); });
  reader_ = std::make_unique<WorkerThread>();
  writer_ = std::make_unique<WorkerThread>(WorkerPriority::kLow);
  embedder_ = std::make_unique<WorkerThread>();
  if (parts_.store != nullptr) {
    int64_t bytes = 0;
    StoreListing listing = ListStore([&](const SegmentRecord& record) {
      bytes += record.stored_bytes;
      AddToDisk(record);
    });
    const absl::Status listed = listing.status;
    Adopt(std::move(listing), bytes);  // what could be read counts even then
    if (!listed.ok()) {
      StoreFailed(StoreFailure::kList, listed);
      SwitchStoreOff(listed);
    }
  }
  last_activity_ = Now();
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

absl::Status EngineImpl::CheckRequest(const GenerateRequest& request) const {
  const int32_t context = parts_.runner->context_length();
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return absl::InvalidArgumentError("prompt: empty, expected at least one token");
  if (request.max_output_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_output_tokens: ", request.max_output_tokens, ", expected >= 0"));
  }
  if (prompt + request.max_output_tokens > context) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt: ", prompt, " tokens + max_output_tokens ", request.max_output_tokens,
                     " exceed the context of ", context));
  }
  for (const TokenId id : request.prompt) {
    if (id < 0 || id >= parts_.runner->vocabulary_size()) {
      return absl::InvalidArgumentError(absl::StrCat("prompt: token id ", id, " is not in [0, ",
                                                     parts_.runner->vocabulary_size(), ")"));
    }
  }
  if (request.speculation) RETURN_IF_ERROR(CheckPromptLookup(*request.speculation));
  const int32_t needed = BlocksFor(static_cast<int32_t>(prompt) + request.max_output_tokens);
  ASSIGN_OR_RETURN(const size_t spec, SpecOf(request.tenant));
  RETURN_IF_ERROR(CheckQuota(parts_.namespaces[spec], needed + 1));
  if (needed + 1 <= parts_.runner->num_blocks()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("prompt and output need ", needed + 1,
                                                   " KV blocks, the pool has ",
                                                   parts_.runner->num_blocks()));
}

absl::StatusOr<SequenceId> EngineImpl::Submit(GenerateRequest request, GenerationSink sink) {
  RETURN_IF_ERROR(CheckRequest(request));
  const std::lock_guard lock(mutex_);
  if (draining_ || stopping_) return absl::UnavailableError("the server is shutting down");
  const size_t spec = *SpecOf(request.tenant);
  const bool full = queued_count_ >= options_.max_queued_requests;
  const int most = *std::max_element(queued_of_.begin(), queued_of_.end());
  // Below, or who holds most of the queue gives way, until the two hold as much.
  if (full && queued_of_[spec] + 1 >= most) {
    return absl::ResourceExhaustedError(absl::StrCat(
        queued_count_, " requests are waiting, the limit is ", options_.max_queued_requests));
  }
  const SequenceId id = next_id_++;
  auto sequence =
      std::make_shared<Sequence>(id, std::move(request), std::move(sink), parts_.tokenizer);
  sequence->submitted = Now();
  sequence->result.reuse.mode = ModeOf(*sequence);
  sequence->result.reuse.exact = options_.exact;
  sequence->spec = spec;
  ++queued_count_;
  ++queued_of_[spec];
  idle_ = false;
  inbox_.push_back([this, sequence, spec, full] {
    sequence->cache = &Open(spec);
    queued_.push_back(sequence);
    if (full) KeepQueueWithinLimit();
  });
  news_.notify_one();
  return id;
}

void EngineImpl::Cancel(SequenceId id) {
  Post([this, id] { cancelled_.insert(id); });
}

void EngineImpl::Post(Task task) {
  const std::lock_guard lock(mutex_);
  idle_ = false;
  inbox_.push_back(std::move(task));
  news_.notify_one();
}

// Runs posted tasks; with `wait`, sleeps until there is one. False: stop.
bool EngineImpl::TakeTasks(bool wait) {
  std::deque<Task> tasks;
  {
    std::unique_lock lock(mutex_);
    if (wait && inbox_.empty()) {
      idle_ = IsIdle();
      if (idle_) settled_.notify_all();
      news_.wait_for(lock, kIdleWait, [this] { return stopping_ || !inbox_.empty(); });
    }
    tasks.swap(inbox_);
    if (stopping_ && tasks.empty()) return false;
  }
  for (Task& task : tasks) task();
  return true;
}

bool EngineImpl::IsIdle() const {
  return !HasSequences() && shadows_.empty() && flushes_.empty() && copies_.empty() &&
         writes_.empty() && writing_segments_ == 0 && NumDeferred() == 0 && embeddings_.empty() &&
         !embedding_now_ && moving_vectors_ == 0 &&
         (!VectorsToSave(/*all=*/false) || vectors_not_saved_) && !saving_vectors_ &&
         !retrying_store_;
}

void EngineImpl::Loop() {
  const auto has_work = [this] {
    return !running_.empty() || !copies_.empty() || MayWriteDeferred() || FlushMayAdvance() ||
           NextAdmitted().has_value() || (!shadows_.empty() && !HasSequences());
  };
  while (TakeTasks(/*wait=*/!has_work())) {
    CheckEnded();
    GiveUpStalledLoads();
    RetryStore();
    blocks_.SetNow(absl::ToDoubleSeconds(Now()));
    DropExpired();
    ResumeSharers();
    MakeRoomOfShadows();
    Admit();
    if (!running_.empty()) {
      last_activity_ = Now();
      Step();
      ResumeSharers();
      CopyOneSegment();
      if (DecodingLeavesRoom()) RunQueuedEmbeddings();
    } else {
      CopyOneSegment();
      if (MayWriteDeferred()) WriteDeferred();
      RunQueuedEmbeddings();
      if (!HasSequences()) StepShadow();
      // One flush of all that waits: each makes a file.
      if (Now() - last_activity_ >= options_.flush_after_idle && copies_.empty() &&
          !MayWriteDeferred()) {
        FlushWrites();
        SaveVectors(/*all=*/false);
      }
    }
    AdvanceFlush();
    PublishState();
  }
}

void EngineImpl::PublishState() {
  EngineGauges gauges;
  gauges.queued_requests = static_cast<int64_t>(queued_.size());
  gauges.running_sequences = static_cast<int64_t>(running_.size() + waiting_.size());
  gauges.pool_blocks = blocks_.num_blocks();
  gauges.used_blocks = blocks_.num_blocks() - blocks_.num_free();
  gauges.cached_blocks = blocks_.num_cached();
  gauges.block_bytes = parts_.runner->block_bytes();
  gauges.pending_write_segments =
      static_cast<int64_t>(copies_.size() + writes_.size()) + writing_segments_;
  ForEachNamespace([&](const CacheNamespace& in) {
    if (in.vectors != nullptr) gauges.vectors += in.vectors->size();
  });
  parts_.metrics->SetEngineGauges(gauges);
}

CacheStats EngineImpl::CollectStats() {
  PublishNamespaces();
  CacheStats stats;
  stats.host_block_count = blocks_.num_blocks();
  stats.host_cached_block_count = blocks_.num_cached();
  stats.host_free_block_count = blocks_.num_free();
  stats.host_available_block_count = blocks_.num_available();
  stats.host_block_bytes = parts_.runner->block_bytes();
  stats.host_cached_tokens = blocks_.cached_tokens();
  stats.disk_enabled = StoreOn();
  stats.pending_write_segments =
      static_cast<int64_t>(copies_.size() + writes_.size()) + writing_segments_;
  stats.durable_segments = durable_segments_;
  ForEachNamespace([&](const CacheNamespace& in) {
    stats.namespaces.push_back(StatsOf(in));
    stats.disk_cached_tokens += in.disk.cached_tokens();
    stats.vector_count += stats.namespaces.back().vector_count;
    stats.prompt_count += stats.namespaces.back().prompt_count;
  });
  stats.running_sequences = static_cast<int32_t>(running_.size() + waiting_.size());
  stats.queued_requests = static_cast<int32_t>(queued_.size());
  return stats;
}

CacheStats EngineImpl::GetCacheStats() {
  const auto collected = std::make_shared<std::promise<CacheStats>>();
  Post([this, collected] { collected->set_value(CollectStats()); });
  CacheStats stats = collected->get_future().get();
  if (parts_.store != nullptr) {
    stats.disk = parts_.store->Stats();  // walks the folder: not on the engine thread
    parts_.metrics->SetStoreGauges(ToStoreGauges(stats.disk_enabled, stats.disk));
  }
  return stats;
}

std::future<Explanation> EngineImpl::StartExplain(const std::shared_ptr<ExplainJob>& job) {
  std::future<Explanation> explained = job->explained.get_future();
  Post([this, job] {
    CacheNamespace* in = &Open(*SpecOf(job->request.tenant));
    embedder_->Post([this, job, in] {
      if (job->dead) return;
      const int wanted = std::max(options_.semantic_top_k, kExplainNeighbors);
      FindNearest({in, wanted}, job->request.prompt_text,
                  [this, job, in](const absl::StatusOr<Nearest>& nearest) {
                    if (!job->dead)
                      job->explained.set_value(ExplainNow(*in, job->request, nearest));
                  });
    });
  });
  return explained;
}

absl::StatusOr<Explanation> EngineImpl::Explain(const ExplainRequest& request) {
  GenerateRequest checked;
  checked.tenant = request.tenant;
  checked.prompt = request.prompt;
  RETURN_IF_ERROR(CheckRequest(checked));
  {
    const std::lock_guard lock(mutex_);
    if (draining_ || stopping_) return absl::UnavailableError("the server is shutting down");
  }
  const auto job = std::make_shared<ExplainJob>();
  job->request = {request.tenant, request.prompt, request.prompt_text, std::nullopt, nullptr};
  std::future<Explanation> explained = StartExplain(job);
  while (explained.wait_for(kExplainPoll) != std::future_status::ready) {
    const bool late = request.deadline && Now() >= *request.deadline;
    if (!late && !(request.is_cancelled && request.is_cancelled())) continue;
    job->dead = true;
    if (late) return absl::DeadlineExceededError("the deadline passed");
    return absl::CancelledError("the caller cancelled the request");
  }
  return explained.get();
}

bool EngineImpl::WaitUntilIdle(absl::Duration limit) {
  std::unique_lock lock(mutex_);
  return settled_.wait_for(lock, absl::ToChronoNanoseconds(limit),
                           [this] { return idle_ && inbox_.empty(); });
}

// Ends what is left when it is `late`. Whether there was anything.
bool EngineImpl::EndRest(bool late) {
  const bool busy = HasSequences();
  if (!late) return busy;
  std::vector<SequencePtr> rest(queued_.begin(), queued_.end());
  rest.insert(rest.end(), waiting_.begin(), waiting_.end());
  rest.insert(rest.end(), running_.begin(), running_.end());
  for (const SequencePtr& sequence : rest) {
    Finish(sequence, absl::UnavailableError("the server is shutting down"));
  }
  return busy;
}

void EngineImpl::Drain(absl::Duration limit) {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  const absl::Duration end = Now() + limit;
  bool busy = true;
  while (busy) {
    const bool late = Now() >= end;
    const auto asked = std::make_shared<std::promise<bool>>();
    Post([this, late, asked] { asked->set_value(EndRest(late)); });
    busy = asked->get_future().get();
    if (busy && !late) absl::SleepFor(absl::Milliseconds(5));
  }
  const auto flushed = std::make_shared<std::promise<void>>();
  Post([this, flushed, end] {
    while (NumDeferred() > 0 && Now() < end) {
      WriteDeferred();
      while (!copies_.empty()) CopyOneSegment();
    }
    while (!copies_.empty()) CopyOneSegment();
    while (!flushes_.empty()) EndFlush();
    FlushWrites();
    SaveVectors(/*all=*/true);
    writer_->Post([this, flushed] { Post([flushed] { flushed->set_value(); }); });
  });
  flushed->get_future().get();
}

}  // namespace reprise
