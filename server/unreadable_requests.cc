#include "server/unreadable_requests.h"

#include <string>

#include "server/status_map.h"

namespace reprise::server {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class UnreadableRequest final : public grpc::experimental::Interceptor {
 public:
  UnreadableRequest(const GrpcParts& parts, const char* path)
      : parts_(parts), start_(parts.clock->Monotonic()), path_(path) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE)) {
      unreadable_ = methods->GetRecvMessage() == nullptr;
    }
    if (unreadable_ &&
        methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      methods->ModifySendStatus(Refuse());
    }
    methods->Proceed();
  }

 private:
  grpc::Status Refuse() const {
    const absl::Status status = FieldViolation(
        "request", "not a message of this call, or a text field in it is not valid UTF-8");
    RequestSummary summary;
    summary.method = path_.substr(path_.rfind('/') + 1);
    summary.tenant = parts_.tenant;
    summary.code = CodeName(status.code());
    summary.total = parts_.clock->Monotonic() - start_;
    parts_.metrics->RequestStarted(summary.method);
    parts_.metrics->RequestFinished(summary);
    parts_.logger->Request(summary);
    return ToGrpc(status);
  }

  const GrpcParts& parts_;
  const absl::Duration start_;
  const std::string path_;  // "/package.Service/Method"
  bool unreadable_ = false;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(const GrpcParts& parts) : parts_(parts) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    // Where a caller streams, a message that is not there is the end of the stream.
    const bool one_request = call->type() == ServerRpcInfo::Type::UNARY ||
                             call->type() == ServerRpcInfo::Type::SERVER_STREAMING;
    if (!one_request) return nullptr;
    return new UnreadableRequest(parts_, call->method());  // gRPC owns it
  }

 private:
  const GrpcParts& parts_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
InterceptUnreadableRequests(const GrpcParts& parts) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<Factory>(parts));
  return factories;
}

}  // namespace reprise::server
