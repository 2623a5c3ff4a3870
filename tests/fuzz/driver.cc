// Runs a fuzz target without libFuzzer: its seeds, then mutations of them, the same
// ones in every run.
//
//   gguf_fuzz [MUTATIONS [FIRST]]   REPRISE_FUZZ_MUTATIONS goes over MUTATIONS
//   gguf_fuzz --corpus FOLDER       writes the seeds as files, for libFuzzer
//   gguf_fuzz --file FILE           runs one input
//
// An input that ends the process, runs for too long or takes too much memory is
// written to the current folder.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutate.h"

// Of the sanitizers' runtime, when there is one.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=512:quarantine_size_mb=32:detect_leaks=1";
}

namespace reprise::fuzz {
namespace {

constexpr unsigned kMaxSeconds = 20;  // for one input, sanitized and on a busy machine
constexpr long kMaxResidentKib = 1 << 20;

std::string program;
std::string current;  // the input at hand
uint64_t current_number = 0;

void SaveCurrent() {
  const std::string name = program + "-" + std::to_string(current_number) + ".input";
  std::ofstream(name, std::ios::binary) << current;
  std::fprintf(stderr, "%s: input %llu, %zu bytes, is in %s\n", program.c_str(),
               static_cast<unsigned long long>(current_number), current.size(), name.c_str());
}

void OnSignal(int number) {
  if (number == SIGALRM) std::fprintf(stderr, "an input ran for %u s\n", kMaxSeconds);
  SaveCurrent();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void WatchForTheEnd() {
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(SaveCurrent);
  } else {
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(number, OnSignal);
  }
  std::signal(SIGABRT, OnSignal);
  std::signal(SIGALRM, OnSignal);
}

void RunInput(std::string input, uint64_t number) {
  current = std::move(input);
  current_number = number;
  alarm(kMaxSeconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(current.data()), current.size());
  alarm(0);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  Require(usage.ru_maxrss < kMaxResidentKib, "an input takes less than 1 GiB of memory");
}

int WriteCorpus(const std::string& folder) {
  std::filesystem::create_directories(folder);
  size_t number = 0;
  for (const std::string& seed : FuzzSeeds()) {
    std::ofstream(folder + "/seed-" + std::to_string(number++), std::ios::binary) << seed;
  }
  std::printf("%zu seeds\n", number);
  return number > 0 ? 0 : 1;
}

int RunAll(uint64_t mutations, uint64_t first) {
  const std::vector<std::string> seeds = FuzzSeeds();
  Require(!seeds.empty(), "there are seeds");
  for (const std::string& seed : seeds) RunInput(seed, 0);
  Mutator mutator(seeds);
  for (uint64_t i = 0; i < mutations; ++i) RunInput(mutator.Make(first + i), first + i);
  std::printf("%s: %zu seeds, %llu mutations\n", program.c_str(), seeds.size(),
              static_cast<unsigned long long>(mutations));
  return 0;
}

int Main(int argc, char** argv) {
  program = std::filesystem::path(argv[0]).filename();
  WatchForTheEnd();
  if (argc == 3 && std::strcmp(argv[1], "--corpus") == 0) return WriteCorpus(argv[2]);
  if (argc == 3 && std::strcmp(argv[1], "--file") == 0) {
    RunInput(ReadSeed(argv[2]), 0);
    return 0;
  }
  uint64_t mutations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
  if (const char* wanted = std::getenv("REPRISE_FUZZ_MUTATIONS")) {
    mutations = std::strtoull(wanted, nullptr, 10);
  }
  return RunAll(mutations, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
}

}  // namespace
}  // namespace reprise::fuzz

int main(int argc, char** argv) { return reprise::fuzz::Main(argc, argv); }
