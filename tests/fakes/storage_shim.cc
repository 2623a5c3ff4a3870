// Preloaded into a server (LD_PRELOAD), it makes storage fail below a folder.
//
//   REPRISE_SHIM_FOLDER   paths that begin so are concerned
//   REPRISE_SHIM_CONTROL  a file of lines OPERATION FAULT, read at each call; without it,
//                         or where it is empty, everything works
//
// OPERATION  read; write (all that changes a file or a folder, opening for it included);
//            open (any opening)
// FAULT      EIO, ENOSPC, EROFS: the call fails so. STALL: it waits until the fault is gone;
//            ten seconds after the first such call all go on. SHORT: a read finds the end of
//            the file. FLAKY: one call in eight fails with EIO.
//
// Threading  as the calls that it stands before.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr int kMaxFiles = 65536;
constexpr int64_t kStallNanoseconds = 10'000'000'000;
constexpr long kStallStepNanoseconds = 10'000'000;
constexpr unsigned kFlakyCalls = 8;

std::atomic<bool> concerned[kMaxFiles];
std::atomic<unsigned> flaky_calls;
// By Slot() of the operation; 0: it does not stand still.
std::atomic<int64_t> stall_began[256];

size_t Slot(const char* operation) { return static_cast<unsigned char>(*operation); }

template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}
#define NEXT(name) Next(&name, #name)

bool IsConcerned(const char* path) {
  static const char* const folder = getenv("REPRISE_SHIM_FOLDER");
  return folder != nullptr && path != nullptr && strncmp(path, folder, strlen(folder)) == 0;
}

bool IsConcerned(int file) { return file >= 0 && file < kMaxFiles && concerned[file]; }

// The fault of `operation` now, into `fault`; empty: none. By system calls, so as not to
// come back here.
void ReadFault(const char* operation, char (&fault)[16]) {
  fault[0] = '\0';
  static const char* const control = getenv("REPRISE_SHIM_CONTROL");
  if (control == nullptr) return;
  const long file = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  char text[256] = {};
  const long size = syscall(SYS_read, file, text, sizeof(text) - 1);
  syscall(SYS_close, file);
  if (size <= 0) return;
  char* rest = nullptr;
  for (char* line = strtok_r(text, "\n", &rest); line != nullptr;
       line = strtok_r(nullptr, "\n", &rest)) {
    char name[16];
    if (sscanf(line, "%15s %15s", name, fault) == 2 && strcmp(name, operation) == 0) return;
  }
  fault[0] = '\0';
}

bool StallIsOver(const char* operation) {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t nanoseconds = now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
  int64_t began = 0;
  if (stall_began[Slot(operation)].compare_exchange_strong(began, nanoseconds)) began = nanoseconds;
  return nanoseconds - began > kStallNanoseconds;
}

enum class Outcome { kGoOn, kFail, kEnd };

// What becomes of a call of `operation`; on kFail with errno set.
Outcome Judge(const char* operation) {
  char fault[16];
  ReadFault(operation, fault);
  if (strcmp(fault, "STALL") != 0) stall_began[Slot(operation)] = 0;
  while (strcmp(fault, "STALL") == 0 && !StallIsOver(operation)) {
    const timespec pause = {0, kStallStepNanoseconds};
    nanosleep(&pause, nullptr);
    ReadFault(operation, fault);
  }
  const struct {
    const char* name;
    int number;
  } errors[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}};
  for (const auto& error : errors) {
    if (strcmp(fault, error.name) != 0) continue;
    errno = error.number;
    return Outcome::kFail;
  }
  if (strcmp(fault, "FLAKY") == 0 && ++flaky_calls % kFlakyCalls == 0) {
    errno = EIO;
    return Outcome::kFail;
  }
  return strcmp(fault, "SHORT") == 0 ? Outcome::kEnd : Outcome::kGoOn;
}

bool Writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0; }

// `open` opens; what was opened below the folder is remembered.
template <typename Open>
int Opened(const char* path, int flags, const Open& open) {
  const bool ours = IsConcerned(path);
  if (ours && Judge("open") == Outcome::kFail) return -1;
  if (ours && Writes(flags) && Judge("write") == Outcome::kFail) return -1;
  const int file = open();
  if (file >= 0 && file < kMaxFiles) concerned[file] = ours;
  return file;
}

mode_t ModeOf(int flags, va_list& arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                       \
  int name(const char* path, int flags, ...) {                           \
    va_list arguments;                                                   \
    va_start(arguments, flags);                                          \
    const mode_t mode = ModeOf(flags, arguments);                        \
    va_end(arguments);                                                   \
    static auto* const next = NEXT(name);                                \
    return Opened(path, flags, [&] { return next(path, flags, mode); }); \
  }
OPEN(open)
OPEN(open64)

#define READ(type, name, parameters, arguments, file)              \
  type name parameters {                                           \
    static auto* const next = NEXT(name);                          \
    if (IsConcerned(file)) {                                       \
      const Outcome outcome = Judge("read");                       \
      if (outcome == Outcome::kFail) return static_cast<type>(-1); \
      if (outcome == Outcome::kEnd) return 0;                      \
    }                                                              \
    return next arguments;                                         \
  }
READ(ssize_t, read, (int file, void* to, size_t size), (file, to, size), file)
READ(ssize_t, pread, (int file, void* to, size_t size, off_t at), (file, to, size, at), file)
READ(ssize_t, pread64, (int file, void* to, size_t size, off64_t at), (file, to, size, at), file)

// An error shows in the stream's flags alone, where ferror looks.
size_t fread_unlocked(void* to, size_t size, size_t count, FILE* stream) {
  static auto* const next = NEXT(fread_unlocked);
  constexpr int kErrorSeen = 0x20;  // glibc's _IO_ERR_SEEN
  const Outcome outcome = IsConcerned(fileno(stream)) ? Judge("read") : Outcome::kGoOn;
  if (outcome == Outcome::kFail) stream->_flags |= kErrorSeen;
  return outcome == Outcome::kGoOn ? next(to, size, count, stream) : 0;
}

#define WRITE(type, name, parameters, arguments, ours)                    \
  type name parameters {                                                  \
    static auto* const next = NEXT(name);                                 \
    if (IsConcerned(ours) && Judge("write") == Outcome::kFail) return -1; \
    return next arguments;                                                \
  }
WRITE(ssize_t, write, (int file, const void* from, size_t size), (file, from, size), file)
WRITE(ssize_t, pwrite, (int file, const void* from, size_t size, off_t at), (file, from, size, at),
      file)
WRITE(ssize_t, pwrite64, (int file, const void* from, size_t size, off64_t at),
      (file, from, size, at), file)
WRITE(int, fsync, (int file), (file), file)
WRITE(int, fdatasync, (int file), (file), file)
WRITE(int, ftruncate, (int file, off_t size), (file, size), file)
WRITE(int, fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size), file)
WRITE(int, rename, (const char* from, const char* to), (from, to), to)
WRITE(int, mkdir, (const char* path, mode_t mode), (path, mode), path)
WRITE(int, unlink, (const char* path), (path), path)

int close(int file) {
  static auto* const next = NEXT(close);
  if (file >= 0 && file < kMaxFiles) concerned[file] = false;
  return next(file);
}

}  // extern "C"
