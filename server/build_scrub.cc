#include "server/build_scrub.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/rocksdb_scrub.h"

namespace reprise::server {

absl::StatusOr<bool> VerifyStore(const config::v1::ServerConfig& config, bool repair,
                                 std::ostream& out) {
  ScrubOptions options;
  options.path = config.cache().store().path();
  options.repair = repair;
  const auto scrubbed = ScrubRocksDbStore(options);
  if (!scrubbed.ok()) {
    return absl::Status(scrubbed.status().code(),
                        absl::StrCat("cache.store.path: ", scrubbed.status().message()));
  }
  const ScrubReport& report = *scrubbed;
  out << "folder " << options.path << "\nsegments " << report.segments << "\npayload_bytes "
      << report.payload_bytes << "\nprompts " << report.prompts << "\ndamaged_segments "
      << report.damaged_segments << "\ndamaged_records " << report.damaged_records
      << "\ndamaged_prompts " << report.damaged_prompts << "\nmissing " << report.missing
      << "\norphans " << report.orphans << "\nin_doubt " << report.in_doubt << "\nunreachable "
      << report.unreachable << "\n";
  for (const std::string& finding : report.named) out << finding << "\n";
  if (report.damaged() == 0) {
    out << "sound" << std::endl;
  } else {
    out << report.damaged() << (report.repaired ? " removed" : " damaged") << std::endl;
  }
  return report.damaged() == 0 || report.repaired;
}

}  // namespace reprise::server
