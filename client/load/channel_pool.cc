#include "client/load/channel_pool.h"

#include <algorithm>
#include <utility>

namespace reprise::client::load {

using inference::v1::GenerationService;

ChannelPool::ChannelPool(const ClientOptions& options, int channels, Callbacks callbacks)
    : options_(options), callbacks_(std::move(callbacks)) {
  for (int i = 0; i < std::max(1, channels); ++i) {
    auto channel = std::make_unique<Channel>();
    channel->stub =
        GenerationService::NewStub(OpenChannel(options.address, options, /*own_connection=*/true));
    // The first request would wait for its connection and count that as the server's time.
    grpc::ClientContext context;
    PrepareContext(options_, context);
    inference::v1::GetModelResponse response;
    channel->stub->GetModel(&context, {}, &response);
    channel->thread = std::thread([this, raw = channel.get()] { Poll(*raw); });
    channels_.push_back(std::move(channel));
  }
}

ChannelPool::~ChannelPool() {
  for (const auto& channel : channels_) channel->queue.Shutdown();
  for (const auto& channel : channels_) channel->thread.join();
}

void ChannelPool::Start(std::unique_ptr<StreamCall> owned) {
  StreamCall& call = *owned.release();  // Complete takes it back
  ClientOptions options = options_;
  options.token = call.token;
  PrepareContext(options, call.context);
  call.context.AddMetadata("x-request-id", call.record.request_id);
  Channel& channel = *channels_[call.record.channel];
  call.reader =
      channel.stub->PrepareAsyncStreamGenerate(&call.context, call.request, &channel.queue);
  {
    absl::MutexLock lock(&mutex_);
    in_flight_.insert(&call);
  }
  call.record.sent = callbacks_.now();
  call.reader->StartCall(&call);
}

void ChannelPool::CancelAll() {
  absl::MutexLock lock(&mutex_);
  for (StreamCall* call : in_flight_) {
    call->cut_off = true;
    call->context.TryCancel();
  }
}

void ChannelPool::Poll(Channel& channel) {
  void* tag = nullptr;
  bool ok = false;
  while (channel.queue.Next(&tag, &ok)) Step(*static_cast<StreamCall*>(tag), ok);
}

void ChannelPool::Step(StreamCall& call, bool ok) {
  const double now = callbacks_.now();
  if (call.stage == StreamCall::Stage::kFinish) return Complete(call, now);
  if (!ok) {
    call.stage = StreamCall::Stage::kFinish;
    return call.reader->Finish(&call.grpc_status, &call);
  }
  if (call.stage == StreamCall::Stage::kRead) Receive(call, now);
  call.stage = StreamCall::Stage::kRead;
  const bool due = call.record.received_tokens >= call.cancel_after_tokens;
  if (call.record.cancel_planned && due && !call.cancel_sent) {
    call.cancel_sent = true;
    call.context.TryCancel();
  }
  call.reader->Read(&call.message, &call);
}

void ChannelPool::Receive(StreamCall& call, double now) {
  if (call.message.has_completed()) {
    call.reply = std::move(*call.message.mutable_completed());
  } else if (call.message.chunk().token_ids_size() > 0) {
    call.record.chunk_times.push_back(now);
    call.record.received_tokens += call.message.chunk().token_ids_size();
  }
}

void ChannelPool::Complete(StreamCall& call, double now) {
  {
    absl::MutexLock lock(&mutex_);
    in_flight_.erase(&call);
  }
  call.record.finished = now;
  call.status = ToAbslStatus(call.grpc_status);
  if (call.status.ok() && !call.reply) {
    call.status = absl::DataLossError("the stream ended without its final message");
  }
  if (!call.status.ok()) call.reply.reset();
  callbacks_.done(std::unique_ptr<StreamCall>(&call));
}

}  // namespace reprise::client::load
