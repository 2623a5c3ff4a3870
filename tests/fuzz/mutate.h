// Deterministic mutations of fuzz inputs.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace reprise::fuzz {

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  // The mutation with this number: the same one in every run.
  std::string Make(uint64_t number);

 private:
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  void MutateOnce(std::string& input);
  void FlipBit(std::string& input);
  void SetByte(std::string& input);
  void EditLength(std::string& input);
  void EditNumber(std::string& input);
  void Truncate(std::string& input);
  void Erase(std::string& input);
  void Repeat(std::string& input);
  void Splice(std::string& input);

  std::vector<std::string> seeds_;
  std::mt19937_64 random_;
};

}  // namespace reprise::fuzz
