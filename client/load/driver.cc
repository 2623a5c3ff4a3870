#include "client/load/driver.h"

#include <sys/prctl.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/load/channel_pool.h"
#include "client/load/conversation.h"
#include "core/base/clock.h"

namespace reprise::client::load {
namespace {

// The caller's wish to stop is looked at this often.
constexpr absl::Duration kPatience = absl::Milliseconds(50);

// Arrivals are made ahead of their time, and not while one is due within kBusySeconds.
constexpr int64_t kArrivalsAhead = 64;
constexpr double kBusySeconds = 0.001;

// A source none of whose sessions fits the window is given up after so many.
constexpr int kMostUnfit = 1000;

using OwnedCall = std::unique_ptr<StreamCall>;

bool Later(const OwnedCall& a, const OwnedCall& b) {
  return std::pair(a->record.scheduled, a->order) > std::pair(b->record.scheduled, b->order);
}

}  // namespace

class LoadDriver::Impl {
 public:
  Impl(const DriverOptions& options, Recorder* recorder)
      : options_(options),
        recorder_(*recorder),
        end_(options.duration_seconds > 0 ? options.duration_seconds
                                          : std::numeric_limits<double>::infinity()),
        schedule_(options.schedule),
        cancel_random_(options.seed ^ 0xCA5CE1),
        origin_(absl::ToInt64Nanoseconds(clock_.Monotonic())) {}

  RunOutcome Run(SessionSource& source, const std::atomic<bool>& stop);
  double Now() const {
    return static_cast<double>(absl::ToInt64Nanoseconds(clock_.Monotonic()) - origin_) / 1e9;
  }

 private:
  using Lock = absl::MutexLock;

  void Pace(SessionSource& source, const std::atomic<bool>& stop);
  void AddArrivals(SessionSource& source) ABSL_LOCKS_EXCLUDED(mutex_);
  bool AddSession(SessionSource& source, double since) ABSL_LOCKS_EXCLUDED(mutex_);
  double DueTime(const Session& session, double since);
  bool Queue(OwnedCall call) ABSL_LOCKS_EXCLUDED(mutex_);
  OwnedCall TakeDue(const std::atomic<bool>& stop, bool& over) ABSL_LOCKS_EXCLUDED(mutex_);
  OwnedCall PopDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Over(bool stop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Send(OwnedCall call);
  void Done(OwnedCall call) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndTurn(StreamCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Drain(const std::atomic<bool>& stop) ABSL_LOCKS_EXCLUDED(mutex_);
  void CountNotSent(SessionSource& source) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return options_.max_in_flight > 0 && in_flight_ >= options_.max_in_flight;
  }
  bool Closed() const { return options_.schedule.arrival == Arrival::kClosed; }

  const DriverOptions options_;
  Recorder& recorder_;
  const double end_;
  SystemClock clock_;

  // Of the thread that keeps the schedule.
  Schedule schedule_;
  Random cancel_random_;
  int64_t next_index_ = 0;
  int64_t next_session_ = 0;
  int unfit_ = 0;           // sessions in a row
  bool exhausted_ = false;  // no session will arrive any more

  std::atomic<int64_t> origin_;  // nanoseconds of the clock
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::vector<OwnedCall> waiting_ ABSL_GUARDED_BY(mutex_);  // a heap, the first due in front
  int64_t next_order_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;        // of what waits
  std::vector<double> wanted_ ABSL_GUARDED_BY(mutex_);  // closed loop: since when sessions are due
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  double released_at_ ABSL_GUARDED_BY(mutex_) = 0;  // when max_in_flight last gave way
  RunOutcome outcome_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<ChannelPool> pool_;  // last, since its threads use the rest
};

RunOutcome LoadDriver::Impl::Run(SessionSource& source, const std::atomic<bool>& stop) {
  pool_ = std::make_unique<ChannelPool>(
      options_.client, options_.channels,
      ChannelPool::Callbacks{[this] { return Now(); },
                             [this](OwnedCall call) { Done(std::move(call)); }});
  origin_ = absl::ToInt64Nanoseconds(clock_.Monotonic());
  if (Closed()) {
    Lock lock(&mutex_);
    wanted_.assign(std::max(1, options_.concurrency), 0.0);
  }
  Pace(source, stop);
  CountNotSent(source);
  Drain(stop);
  pool_.reset();
  Lock lock(&mutex_);
  outcome_.wall_seconds = Now();
  return outcome_;
}

void LoadDriver::Impl::Pace(SessionSource& source, const std::atomic<bool>& stop) {
  prctl(PR_SET_TIMERSLACK, 1);  // of this thread: it wakes up when it is time, not 50 us later
  bool over = false;
  while (!over) {
    AddArrivals(source);
    if (OwnedCall due = TakeDue(stop, over)) Send(std::move(due));
  }
}

// Keeps some arrivals ahead, so that a burst of them is only sent.
void LoadDriver::Impl::AddArrivals(SessionSource& source) {
  while (!exhausted_) {
    double since = 0;
    {
      Lock lock(&mutex_);
      if (Closed()) {
        if (wanted_.empty()) return;
        since = wanted_.back();
        wanted_.pop_back();
      } else if (arrivals_ >= kArrivalsAhead ||
                 (arrivals_ > 0 && waiting_.front()->record.scheduled < Now() + kBusySeconds)) {
        return;
      }
    }
    if (!AddSession(source, since)) exhausted_ = true;
  }
}

double LoadDriver::Impl::DueTime(const Session& session, double since) {
  if (Closed()) return since;
  if (options_.schedule.arrival != Arrival::kTrace) {
    return next_session_ == 0 ? 0 : schedule_.Next();  // a run begins with its first session
  }
  return session.start_seconds.value_or(0) / options_.speedup;
}

// Queues the first turn of the source's next session; false when there is none in time.
bool LoadDriver::Impl::AddSession(SessionSource& source, double since) {
  auto session = source.Next();
  if (!session) return false;
  if (options_.spec.has_max_output_tokens()) {
    for (Turn& turn : session->turns) turn.output_tokens = options_.spec.max_output_tokens();
  }
  const double due = DueTime(*session, since);
  if (due >= end_) {
    Lock lock(&mutex_);
    outcome_.end = RunEnd::kDuration;
    return false;
  }
  for (int copy = 0; copy < std::max(1, session->copies); ++copy) {
    auto call = std::make_unique<StreamCall>();
    call->arrival = true;
    call->follows = copy == 0;
    call->record.scheduled = due;
    call->conversation = std::make_shared<Conversation>(*session, options_.context_length);
    call->record.session = next_session_++;
    if (Queue(std::move(call))) {
      unfit_ = 0;
      continue;
    }
    Lock lock(&mutex_);
    ++outcome_.unfinished_sessions;
    if (Closed() && copy == 0) wanted_.push_back(since);
    if (++unfit_ >= kMostUnfit) return false;
  }
  return true;
}

// Makes the prompt of the conversation's next turn and queues the call; false when it does not fit.
bool LoadDriver::Impl::Queue(OwnedCall call) {
  Conversation& conversation = *call->conversation;
  auto& spec = *call->request.mutable_spec();
  spec = options_.spec;
  call->record.turn = conversation.turn();
  if (!conversation.MakeNext(spec)) return false;
  const bool second = conversation.session().second_token;
  call->token = second ? options_.second_token : options_.client.token;
  Lock lock(&mutex_);
  call->order = next_order_++;
  arrivals_ += call->arrival ? 1 : 0;
  waiting_.push_back(std::move(call));
  std::push_heap(waiting_.begin(), waiting_.end(), Later);
  changed_.Signal();
  return true;
}

bool LoadDriver::Impl::Over(bool stop) {
  if (stop) outcome_.end = RunEnd::kInterrupted;
  const bool enough = options_.request_limit > 0 && next_index_ >= options_.request_limit;
  if (stop || enough) return true;
  const StreamCall* first = waiting_.empty() ? nullptr : waiting_.front().get();
  const bool none_in_time = first == nullptr || first->record.scheduled >= end_;
  const bool idle = exhausted_ && in_flight_ == 0 && none_in_time;
  // What waits for its turn below the limit of requests in flight is not sent after the end.
  const bool past =
      Now() >= end_ && (none_in_time || Full() || first->record.scheduled < released_at_);
  if (past || (idle && first != nullptr)) outcome_.end = RunEnd::kDuration;
  return past || idle;
}

// The first that is due, if it may be sent.
OwnedCall LoadDriver::Impl::PopDue() {
  if (waiting_.empty()) return nullptr;
  const double scheduled = waiting_.front()->record.scheduled;
  if (scheduled > Now() || scheduled >= end_ || Full()) return nullptr;
  std::pop_heap(waiting_.begin(), waiting_.end(), Later);
  OwnedCall due = std::move(waiting_.back());
  waiting_.pop_back();
  // All that was due before a reply made room waited for it, not only the first in line.
  due->record.held_back = scheduled < released_at_;
  arrivals_ -= due->arrival ? 1 : 0;
  outcome_.sessions += due->arrival ? 1 : 0;
  ++in_flight_;
  return due;
}

// Waits a moment for a request that is due; `over` when there will be none.
OwnedCall LoadDriver::Impl::TakeDue(const std::atomic<bool>& stop, bool& over) {
  Lock lock(&mutex_);
  over = Over(stop);
  if (over) return nullptr;
  if (OwnedCall due = PopDue()) return due;
  absl::Duration wait = kPatience;
  if (!waiting_.empty() && !Full()) {
    const double seconds = waiting_.front()->record.scheduled - Now();
    wait = std::clamp(absl::Seconds(seconds), absl::ZeroDuration(), kPatience);
  }
  changed_.WaitWithTimeout(&mutex_, wait);
  over = Over(stop);
  return over ? nullptr : PopDue();
}

void LoadDriver::Impl::Send(OwnedCall call) {
  RequestRecord& r = call->record;
  const Session& session = call->conversation->session();
  const auto& spec = call->request.spec();
  r.index = next_index_++;
  r.request_id = absl::StrCat(options_.run_name, "-", r.index);
  r.label = session.label;
  r.channel = static_cast<int>(r.index % pool_->size());
  r.measured = r.scheduled >= options_.warmup_seconds;
  r.asked_output_tokens = spec.max_output_tokens();
  if (session.form == PromptForm::kTokens) {
    r.asked_prompt_tokens = spec.prompt().token_ids().ids_size();
  }
  r.cancel_planned = options_.cancel_ratio > 0 && cancel_random_.Unit() < options_.cancel_ratio;
  if (r.cancel_planned) {
    const auto tokens = static_cast<uint64_t>(std::max<int64_t>(1, r.asked_output_tokens));
    call->cancel_after_tokens = static_cast<int64_t>(cancel_random_.Next() % tokens);
  }
  recorder_.Sent();
  pool_->Start(std::move(call));
}

void LoadDriver::Impl::Done(OwnedCall call) {
  RequestRecord& r = call->record;
  r.code = absl::StatusCodeToString(call->status.code());
  r.error = std::string(call->status.message());
  r.cancelled = call->cancel_sent && absl::IsCancelled(call->status);
  r.aborted = call->cut_off && !r.cancelled && absl::IsCancelled(call->status);
  EndTurn(*call);
  if (call->reply) {
    r.reply = *std::move(call->reply);
    r.reply->clear_text();
    r.reply->clear_token_ids();
  }
  const double finished = r.finished;  // when what follows it is due: that did not wait for it
  recorder_.Finished(std::move(r));
  Lock lock(&mutex_);
  if (Full()) released_at_ = finished;
  --in_flight_;
  changed_.Signal();
}

// Queues the session's next turn or, in a closed loop, the next session.
void LoadDriver::Impl::EndTurn(StreamCall& call) {
  const auto& conversation = call.conversation;
  const bool goes_on = call.reply && !conversation->Done();
  if (goes_on) {
    conversation->Reply(*call.reply);
    auto next = std::make_unique<StreamCall>();
    next->record.scheduled = call.record.finished + conversation->ThinkSeconds() / options_.speedup;
    next->record.session = call.record.session;
    next->follows = call.follows;
    next->conversation = conversation;
    if (Queue(std::move(next))) return;
  }
  Lock lock(&mutex_);
  if (goes_on || (!conversation->Done() && !call.record.cancelled)) {
    ++outcome_.unfinished_sessions;
  }
  if (Closed() && call.follows) wanted_.push_back(call.record.finished);
}

// Arrivals are not made while one is overdue, so those behind it are counted from the schedule.
void LoadDriver::Impl::CountNotSent(SessionSource& source) {
  const bool enough = options_.request_limit > 0 && next_index_ >= options_.request_limit;
  if (options_.max_in_flight == 0 || enough) return;
  const double until = std::min(end_, Now());
  std::vector<double> not_sent;
  {
    Lock lock(&mutex_);
    for (const OwnedCall& call : waiting_) {
      if (call->record.scheduled < until) not_sent.push_back(call->record.scheduled);
    }
  }
  const bool traced = options_.schedule.arrival == Arrival::kTrace;
  while (!exhausted_ && !Closed()) {
    const auto session = traced ? source.Next() : Session{};
    const double due = session ? DueTime(*session, 0) : until;
    if (due >= until) break;
    not_sent.push_back(due);
  }
  Lock lock(&mutex_);
  outcome_.not_sent = std::move(not_sent);
}

void LoadDriver::Impl::Drain(const std::atomic<bool>& stop) {
  Lock lock(&mutex_);
  const double limit = Now() + options_.grace_seconds;
  while (in_flight_ > 0 && Now() < limit && !stop) changed_.WaitWithTimeout(&mutex_, kPatience);
  if (in_flight_ > 0 && stop) outcome_.end = RunEnd::kInterrupted;
  while (in_flight_ > 0) {
    mutex_.Unlock();
    pool_->CancelAll();
    mutex_.Lock();
    changed_.WaitWithTimeout(&mutex_, kPatience);
  }
  outcome_.unfinished_sessions += static_cast<int64_t>(waiting_.size()) - arrivals_;
}

LoadDriver::LoadDriver(const DriverOptions& options, Recorder* recorder)
    : impl_(std::make_unique<Impl>(options, recorder)) {}

LoadDriver::~LoadDriver() = default;

RunOutcome LoadDriver::Run(SessionSource& source, const std::atomic<bool>& stop) {
  return impl_->Run(source, stop);
}

double LoadDriver::Now() const { return impl_->Now(); }

}  // namespace reprise::client::load
