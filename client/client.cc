#include "client/client.h"

#include <grpcpp/grpcpp.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace reprise::client {
namespace {

using inference::v1::Generation;

// What the error details say beyond the message.
std::string DetailText(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return "";
  std::string text;
  for (const auto& detail : rich.details()) {
    google::rpc::RetryInfo retry;
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) {
      // The server's general reason is the code's name, which the status says already.
      const auto code = static_cast<absl::StatusCode>(status.error_code());
      if (info.reason() != absl::StatusCodeToString(code)) {
        absl::StrAppend(&text, " [", info.reason(), "]");
      }
    } else if (detail.UnpackTo(&retry)) {
      absl::StrAppend(&text, " (retry in ",
                      retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1000000,
                      " ms)");
    }
  }
  return text;
}

using AdminStub = admin::v1::CacheAdminService::Stub;

// One unary call.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(
    Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const std::unique_ptr<grpc::ClientContext>& context, const Request& request) {
  Response response;
  const absl::Status status = ToAbslStatus((stub.*method)(context.get(), request, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
    return absl::UnimplementedError("this address does not serve the call; is it the right port?");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(status.error_message(), DetailText(status)));
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, const ClientOptions& options,
                                           bool own_connection) {
  grpc::ChannelArguments arguments;
  if (own_connection) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (options.ca_pem.empty()) {
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  if (!options.server_name.empty()) {
    arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, options.server_name);
  }
  return grpc::CreateCustomChannel(
      address, grpc::SslCredentials({options.ca_pem, options.key_pem, options.certificate_pem}),
      arguments);
}

void PrepareContext(const ClientOptions& options, grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
  if (!options.token.empty()) {
    context.AddMetadata("authorization", absl::StrCat("Bearer ", options.token));
  }
}

Client::Client(const ClientOptions& options)
    : options_(options),
      generation_(inference::v1::GenerationService::NewStub(OpenChannel(options.address, options))),
      admin_(admin::v1::CacheAdminService::NewStub(OpenChannel(options.admin_address, options))) {}

std::unique_ptr<grpc::ClientContext> Client::NewContext() const {
  auto context = std::make_unique<grpc::ClientContext>();
  PrepareContext(options_, *context);
  return context;
}

absl::StatusOr<Generation> Client::Generate(const inference::v1::GenerationSpec& spec) {
  inference::v1::GenerateRequest request;
  *request.mutable_spec() = spec;
  inference::v1::GenerateResponse response;
  const absl::Status status =
      ToAbslStatus(generation_->Generate(NewContext().get(), request, &response));
  if (!status.ok()) return status;
  return response.generation();
}

absl::StatusOr<Generation> Client::StreamGenerate(const inference::v1::GenerationSpec& spec,
                                                  const ChunkCallback& on_chunk) {
  inference::v1::StreamGenerateRequest request;
  *request.mutable_spec() = spec;
  const auto context = NewContext();
  const auto stream = generation_->StreamGenerate(context.get(), request);
  inference::v1::StreamGenerateResponse message;
  std::optional<Generation> completed;
  while (stream->Read(&message)) {
    if (message.has_completed()) completed = message.completed();
    if (message.has_chunk()) on_chunk(message.chunk());
  }
  const absl::Status status = ToAbslStatus(stream->Finish());
  if (!status.ok()) return status;
  if (!completed) return absl::DataLossError("the stream ended without its final message");
  return *std::move(completed);
}

absl::StatusOr<inference::v1::CountTokensResponse> Client::CountTokens(
    const inference::v1::Prompt& prompt) {
  inference::v1::CountTokensRequest request;
  *request.mutable_prompt() = prompt;
  inference::v1::CountTokensResponse response;
  const absl::Status status =
      ToAbslStatus(generation_->CountTokens(NewContext().get(), request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<inference::v1::ExplainPromptResponse> Client::ExplainPrompt(
    const inference::v1::ExplainPromptRequest& request) {
  inference::v1::ExplainPromptResponse response;
  const absl::Status status =
      ToAbslStatus(generation_->ExplainPrompt(NewContext().get(), request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<inference::v1::Model> Client::GetModel() {
  inference::v1::GetModelResponse response;
  const absl::Status status =
      ToAbslStatus(generation_->GetModel(NewContext().get(), {}, &response));
  if (!status.ok()) return status;
  return response.model();
}

absl::StatusOr<admin::v1::GetCacheStatsResponse> Client::GetCacheStats() {
  return Call(*admin_, &AdminStub::GetCacheStats, NewContext(), admin::v1::GetCacheStatsRequest());
}

absl::StatusOr<admin::v1::ListCacheEntriesResponse> Client::ListCacheEntries(
    const admin::v1::ListCacheEntriesRequest& request) {
  return Call(*admin_, &AdminStub::ListCacheEntries, NewContext(), request);
}

absl::StatusOr<admin::v1::ExplainCacheLookupResponse> Client::ExplainCacheLookup(
    const admin::v1::ExplainCacheLookupRequest& request) {
  return Call(*admin_, &AdminStub::ExplainCacheLookup, NewContext(), request);
}

absl::StatusOr<admin::v1::WarmCacheResponse> Client::WarmCache(
    const admin::v1::WarmCacheRequest& request) {
  return Call(*admin_, &AdminStub::WarmCache, NewContext(), request);
}

absl::StatusOr<admin::v1::PinCacheEntryResponse> Client::PinCacheEntry(
    const admin::v1::PinCacheEntryRequest& request) {
  return Call(*admin_, &AdminStub::PinCacheEntry, NewContext(), request);
}

absl::StatusOr<admin::v1::SetCacheEntryTtlResponse> Client::SetCacheEntryTtl(
    const admin::v1::SetCacheEntryTtlRequest& request) {
  return Call(*admin_, &AdminStub::SetCacheEntryTtl, NewContext(), request);
}

absl::StatusOr<admin::v1::PurgeCacheEntriesResponse> Client::PurgeCacheEntries(
    const admin::v1::PurgeCacheEntriesRequest& request) {
  return Call(*admin_, &AdminStub::PurgeCacheEntries, NewContext(), request);
}

absl::StatusOr<admin::v1::ExportCacheEntriesResponse> Client::ExportCacheEntries(
    const admin::v1::ExportCacheEntriesRequest& request,
    const std::function<void(const std::string&)>& on_data) {
  const auto context = NewContext();
  const auto stream = admin_->ExportCacheEntries(context.get(), request);
  admin::v1::ExportCacheEntriesResponse piece, last;
  while (stream->Read(&piece)) {
    on_data(piece.data());
    last = piece;
  }
  const absl::Status status = ToAbslStatus(stream->Finish());
  if (!status.ok()) return status;
  if (last.digest().empty()) return absl::DataLossError("the archive ended without its digest");
  last.clear_data();
  return last;
}

absl::StatusOr<admin::v1::ImportCacheEntriesResponse> Client::ImportCacheEntries(
    admin::v1::ImportCacheEntriesRequest first, const std::function<std::string()>& read) {
  const auto context = NewContext();
  admin::v1::ImportCacheEntriesResponse response;
  const auto stream = admin_->ImportCacheEntries(context.get(), &response);
  admin::v1::ImportCacheEntriesRequest piece = std::move(first);
  while (true) {
    piece.set_data(read());
    if (piece.data().empty() || !stream->Write(piece)) break;
    piece.Clear();
  }
  stream->WritesDone();
  const absl::Status status = ToAbslStatus(stream->Finish());
  if (!status.ok()) return status;
  return response;
}

}  // namespace reprise::client
