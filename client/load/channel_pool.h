// ChannelPool runs streaming calls on connections of their own and notes when each
// part arrived. One thread a channel takes what arrives; nothing waits for a server.
//
// Threading  Start and CancelAll are safe from any thread. `done` runs on a channel's thread.
// Ownership  a call is the pool's from Start until it is handed to `done`.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "client/client.h"
#include "client/load/conversation.h"
#include "client/load/record.h"

namespace reprise::client::load {

// A request from its planning to its end.
struct StreamCall {
  int64_t order = 0;     // of what is scheduled for the same time
  bool arrival = false;  // the first turn of its session
  bool follows = true;   // closed loop: another session begins when this one ends
  std::shared_ptr<Conversation> conversation;
  inference::v1::StreamGenerateRequest request;
  std::string token;                // bearer token; empty: none
  int64_t cancel_after_tokens = 0;  // with record.cancel_planned

  // What came back. record.cancelled is left to the caller.
  RequestRecord record;
  absl::Status status;
  bool cancel_sent = false;  // by plan
  bool cut_off = false;      // by CancelAll
  std::optional<inference::v1::Generation> reply;

  // The pool's.
  enum class Stage { kStart, kRead, kFinish };
  Stage stage = Stage::kStart;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<inference::v1::StreamGenerateResponse>> reader;
  inference::v1::StreamGenerateResponse message;
  grpc::Status grpc_status;
};

class ChannelPool {
 public:
  struct Callbacks {
    std::function<double()> now;  // seconds
    std::function<void(std::unique_ptr<StreamCall>)> done;
  };

  // Connects; `options` have the deadline of a call.
  ChannelPool(const ClientOptions& options, int channels, Callbacks callbacks);
  ~ChannelPool();  // no call may be in flight

  int size() const { return static_cast<int>(channels_.size()); }

  // Sends a call on its record's channel.
  void Start(std::unique_ptr<StreamCall> call);

  void CancelAll();

 private:
  struct Channel {
    std::unique_ptr<inference::v1::GenerationService::Stub> stub;
    grpc::CompletionQueue queue;
    std::thread thread;
  };

  void Poll(Channel& channel);
  void Step(StreamCall& call, bool ok);
  static void Receive(StreamCall& call, double now);
  void Complete(StreamCall& call, double now);

  const ClientOptions options_;
  const Callbacks callbacks_;
  std::vector<std::unique_ptr<Channel>> channels_;
  absl::Mutex mutex_;
  absl::flat_hash_set<StreamCall*> in_flight_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::client::load
