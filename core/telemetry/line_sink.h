// LineSink writes log lines to a file, a FIFO or standard error and gives up on a
// line rather than wait long for its reader.
//
// Threading  as spdlog asks of a sink: calls are serialised by base_sink.
// Errors     a line that is not written throws spdlog_ex, which the logger counts.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace reprise {

class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // Appends to `file`, creating it and its folders; empty is standard error.
  // kUnavailable naming the file.
  static absl::StatusOr<std::shared_ptr<LineSink>> Open(const std::string& file);
  ~LineSink() override;

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}  // nothing is held here

 private:
  LineSink(int fd, bool owned) : fd_(fd), owned_(owned) {}
  bool WriteAll(absl::string_view text);
  bool WaitUntilWritable();

  const int fd_;
  const bool owned_;
  bool stuck_ = false;  // the reader let a line's patience run out
  bool torn_ = false;   // the last line was cut off
};

}  // namespace reprise
