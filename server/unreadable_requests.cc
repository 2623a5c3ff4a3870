#include "server/unreadable_requests.h"

#include <string>

#include "server/peer_facts.h"
#include "server/status_map.h"

namespace reprise::server {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class UnreadableRequest final : public grpc::experimental::Interceptor {
 public:
  UnreadableRequest(const GrpcParts& parts, config::v1::Role role, ServerRpcInfo* call)
      : parts_(parts),
        role_(role),
        start_(parts.clock->Monotonic()),
        call_(call),
        path_(call->method()) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    // Where requests come in a stream, no message is how it ends; the handler sees that.
    const bool one_request = call_->type() == ServerRpcInfo::Type::UNARY ||
                             call_->type() == ServerRpcInfo::Type::SERVER_STREAMING;
    if (one_request &&
        methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE)) {
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
    absl::Status status = FieldViolation(
        "request", "not a message of this call, or a text field in it is not valid UTF-8");
    RequestSummary summary;
    const auto caller = Authenticate(parts_.auth, PeerFactsOf(*call_->server_context()), role_);
    if (caller.ok()) {
      summary.tenant = caller->tenant;
    } else {
      status = caller.status();
    }
    summary.method = path_.substr(path_.rfind('/') + 1);
    summary.code = CodeName(status.code());
    summary.total = parts_.clock->Monotonic() - start_;
    parts_.metrics->RequestStarted(summary.method);
    parts_.metrics->RequestFinished(summary);
    parts_.logger->Request(summary);
    return ToGrpc(status);
  }

  const GrpcParts& parts_;
  const config::v1::Role role_;
  const absl::Duration start_;
  ServerRpcInfo* const call_;  // gRPC's, for as long as this is
  const std::string path_;     // "/package.Service/Method"
  bool unreadable_ = false;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Factory(const GrpcParts& parts, config::v1::Role role) : parts_(parts), role_(role) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    // Where a caller streams, a message that is not there is the end of the stream.
    const bool one_request = call->type() == ServerRpcInfo::Type::UNARY ||
                             call->type() == ServerRpcInfo::Type::SERVER_STREAMING;
    if (!one_request) return nullptr;
    return new UnreadableRequest(parts_, role_, call);  // gRPC owns it
  }

 private:
  const GrpcParts& parts_;
  const config::v1::Role role_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
InterceptUnreadableRequests(const GrpcParts& parts, config::v1::Role role) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<Factory>(parts, role));
  return factories;
}

}  // namespace reprise::server
