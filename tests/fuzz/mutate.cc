#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace reprise::fuzz {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 16;
constexpr int kMaxSteps = 4;  // mutations on top of each other

constexpr const char* kNumbers[] = {"0",
                                    "-1",
                                    "1",
                                    "64",
                                    "255",
                                    "65536",
                                    "4194303",
                                    "16777216",
                                    "2147483647",
                                    "2147483648",
                                    "4294967296",
                                    "9223372036854775807",
                                    "18446744073709551615",
                                    "18446744073709551616",
                                    "1e308",
                                    "1e999",
                                    "0.5"};

}  // namespace

std::string Mutator::Make(uint64_t number) {
  random_.seed(number);
  std::string input = seeds_[Below(seeds_.size())];
  for (size_t steps = 1 + Below(kMaxSteps); steps > 0; --steps) MutateOnce(input);
  if (input.size() > kMaxBytes) input.resize(kMaxBytes);
  return input;
}

void Mutator::MutateOnce(std::string& input) {
  constexpr void (Mutator::*kMutations[])(std::string&) = {
      &Mutator::FlipBit,    &Mutator::SetByte,    &Mutator::EditLength,
      &Mutator::EditLength, &Mutator::EditNumber, &Mutator::Truncate,
      &Mutator::Erase,      &Mutator::Repeat,     &Mutator::Splice};
  (this->*kMutations[Below(std::size(kMutations))])(input);
}

void Mutator::FlipBit(std::string& input) {
  if (input.empty()) return;
  char& byte = input[Below(input.size())];
  byte = static_cast<char>(byte ^ (1 << Below(8)));
}

void Mutator::SetByte(std::string& input) {
  if (input.empty()) return;
  constexpr char kBytes[] = "\0\xff\x7f\x80{}[]\",:'\\\n\r \t-9#&*!|>%@<";
  input[Below(input.size())] =
      Below(2) == 0 ? kBytes[Below(sizeof(kBytes) - 1)] : static_cast<char>(random_());
}

// Writes an integer that a size or a count might be checked against.
void Mutator::EditLength(std::string& input) {
  const size_t width = size_t{1} << Below(4);
  if (input.size() < width) return;
  const uint64_t bases[] = {0,
                            1,
                            2,
                            4,
                            64,
                            1 << 16,
                            input.size(),
                            uint64_t{1} << 31,
                            uint64_t{1} << 32,
                            uint64_t{1} << 61,
                            uint64_t{1} << 63,
                            ~uint64_t{0}};
  const uint64_t value = bases[Below(std::size(bases))] + Below(3) - 1;
  std::memcpy(&input[Below(input.size() - width + 1)], &value, width);
}

// The same for numbers that are spelt out.
void Mutator::EditNumber(std::string& input) {
  const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const auto begin = std::find_if(input.begin() + static_cast<std::ptrdiff_t>(Below(input.size())),
                                  input.end(), is_digit);
  const auto end = std::find_if_not(begin, input.end(), is_digit);
  input.replace(begin, end, kNumbers[Below(std::size(kNumbers))]);
}

void Mutator::Truncate(std::string& input) { input.resize(Below(input.size() + 1)); }

void Mutator::Erase(std::string& input) {
  const size_t at = Below(input.size());
  input.erase(at, 1 + Below(32));
}

// One byte or a short piece many times over: nesting, long runs.
void Mutator::Repeat(std::string& input) {
  const size_t at = Below(input.size());
  const std::string piece = input.substr(at, 1 + Below(8));
  const size_t most =
      std::min<size_t>(kMaxBytes / (piece.size() + 1), size_t{1} << (2 + Below(14)));
  std::string run;
  for (size_t n = 1 + Below(most); n > 0; --n) run += piece;
  input.insert(at, run);
}

void Mutator::Splice(std::string& input) {
  const std::string& other = seeds_[Below(seeds_.size())];
  const size_t from = Below(other.size());
  input.insert(Below(input.size() + 1), other.substr(from, 1 + Below(other.size() - from)));
}

}  // namespace reprise::fuzz
