#include "core/telemetry/line_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// A reader that takes nothing for this long has stopped: until it goes on, lines
// are dropped at once, so that the end of the process does not wait for it either.
constexpr int kPatienceMilliseconds = 1000;

}  // namespace

absl::StatusOr<std::shared_ptr<LineSink>> LineSink::Open(const std::string& file) {
  if (file.empty()) return std::shared_ptr<LineSink>(new LineSink(STDERR_FILENO, false));
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code ignored;  // open says what is wrong
  if (!folder.empty()) std::filesystem::create_directories(folder, ignored);
  struct stat info;
  const bool fifo = stat(file.c_str(), &info) == 0 && S_ISFIFO(info.st_mode);
  // Opening a FIFO for writing alone would wait for its reader.
  const int mode = fifo ? O_RDWR : O_WRONLY | O_APPEND | O_CREAT;
  const int fd = open(file.c_str(), mode | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("cannot open ", file, ": ", std::strerror(errno)));
  }
  return std::shared_ptr<LineSink>(new LineSink(fd, true));
}

LineSink::~LineSink() {
  if (owned_) close(fd_);
}

bool LineSink::WaitUntilWritable() {
  pollfd target{fd_, POLLOUT, 0};
  int ready = 0;
  do {
    ready = poll(&target, 1, stuck_ ? 0 : kPatienceMilliseconds);
  } while (ready < 0 && errno == EINTR);
  // POLLERR: a pipe without a reader, where writing would raise SIGPIPE.
  stuck_ = ready <= 0;
  return !stuck_ && (target.revents & POLLOUT) != 0 && (target.revents & POLLERR) == 0;
}

bool LineSink::WriteAll(absl::string_view text) {
  while (!text.empty()) {
    if (!WaitUntilWritable()) return false;
    // A pipe that polls as writable takes this much without blocking.
    const ssize_t n = write(fd_, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    torn_ = true;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void LineSink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  formatter_->format(message, line);
  const bool written = (!torn_ || WriteAll("\n")) && WriteAll({line.data(), line.size()});
  if (!written) throw spdlog::spdlog_ex("a log line was not written");
  torn_ = false;
}

}  // namespace reprise
