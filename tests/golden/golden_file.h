// Reads the files that tests/golden/regenerate.sh writes. Paths are relative to
// the repository, where ctest starts the tests.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace reprise {

inline std::string GoldenPath(const std::string& name) { return "tests/golden/" + name; }

inline std::string ReadGoldenText(const std::string& name) {
  std::ifstream file(GoldenPath(name), std::ios::binary);
  EXPECT_TRUE(file.good()) << GoldenPath(name)
                           << ": run from the repository's root; tests/golden/regenerate.sh";
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Little-endian values of T.
template <typename T>
std::vector<T> ReadGolden(const std::string& name) {
  const std::string bytes = ReadGoldenText(name);
  EXPECT_EQ(bytes.size() % sizeof(T), 0u) << name;
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace reprise
