// A scrub of a RocksDbStore's folder: reads every record, segment and prompt and checks
// them and their agreement.
//
// Threading  one call at a time for a folder; it holds the folder's lock, so no server
//            starts meanwhile.
// Errors     kFailedPrecondition: another process holds the folder (both are named).
//            kNotFound: there is no store in it. kUnavailable: it cannot be opened or
//            read. Nothing has been changed then.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace reprise {

struct ScrubOptions {
  std::string path;
  bool repair = false;      // removes what is damaged; otherwise the folder is opened read-only
  size_t max_named = 1000;  // findings named in the report; all are counted
};

struct ScrubReport {
  int64_t segments = 0;       // sound ones
  int64_t payload_bytes = 0;  // of these
  int64_t prompts = 0;        // sound ones

  int64_t damaged_segments = 0;  // refused as a load would refuse them, or not at their key
  int64_t damaged_records = 0;
  int64_t damaged_prompts = 0;
  int64_t missing = 0;  // records without a segment
  int64_t orphans = 0;  // segments without a record, and not in doubt: nothing would remove them
  int64_t in_doubt =
      0;  // segments whose write or removal a crash cut short; the next start ends it
  int64_t unreachable = 0;  // sound, without the segment before them; the next start removes them
  std::vector<std::string> named;  // a line for each finding
  bool repaired = false;           // what was damaged is gone

  int64_t damaged() const {
    return damaged_segments + damaged_records + damaged_prompts + missing + orphans;
  }
};

absl::StatusOr<ScrubReport> ScrubRocksDbStore(const ScrubOptions& options);

}  // namespace reprise
