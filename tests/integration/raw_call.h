// RawCall: one gRPC call in bytes, for methods whose messages this build has no
// code for (health, reflection) and for messages that no client library would send.
//
// Threading  one thread.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>

namespace reprise {

class RawCall {
 public:
  // Starts `method` ("/package.Service/Method") and sends its one request.
  RawCall(int port, const std::string& method, const std::string& request);
  ~RawCall();  // cancels what has not ended

  // The next reply; none when the call has ended.
  std::optional<std::string> Read();

  // The status after the last reply.
  grpc::Status Finish();

 private:
  bool Wait();

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool finished_ = false;
};

}  // namespace reprise
