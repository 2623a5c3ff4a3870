#include <google/protobuf/util/json_util.h>

#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/admin_handlers.h"

namespace reprise::server {

absl::Status WarmFromFile(AdminHandlers& handlers, const std::string& path,
                          const std::string& default_tenant) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be opened"));
  CallFacts call;
  call.request_id = "warm_file";
  call.tenant = default_tenant;
  call.is_cancelled = [] { return false; };
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const auto error = [&](absl::string_view problem) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", problem));
    };
    admin::v1::WarmCacheRequest request;
    const auto parsed = google::protobuf::util::JsonStringToMessage(line, &request);
    if (!parsed.ok()) {
      return error("not a WarmCacheRequest in JSON, such as {\"prompts\": [{\"text\": \"...\"}]}");
    }
    admin::v1::WarmCacheResponse response;
    const absl::Status warmed = handlers.WarmCache(call, request, response);
    if (!warmed.ok()) return error(warmed.message());
  }
  if (file.bad()) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  return absl::OkStatus();
}

}  // namespace reprise::server
