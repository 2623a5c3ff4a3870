#include "core/base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace reprise {
namespace {

using ::testing::HasSubstr;

class MappedFileTest : public ::testing::Test {
 protected:
  MappedFileTest() : path_(::testing::TempDir() + "/mapped-" + std::to_string(getpid())) {}
  ~MappedFileTest() override { std::filesystem::remove_all(path_); }

  void ExpectRefused(absl::StatusCode code) {
    const auto file = MappedFile::Open(path_);
    EXPECT_EQ(file.status().code(), code) << file.status();
    EXPECT_THAT(file.status().message(), HasSubstr(path_));
  }

  const std::string path_;
};

TEST_F(MappedFileTest, MapsTheWholeFile) {
  const std::string text(10000, 'x');
  std::ofstream(path_) << text << "end";
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(AsText((*file)->bytes()), text + "end");
  EXPECT_EQ((*file)->path(), path_);
}

TEST_F(MappedFileTest, StaysReadableAfterDroppingPagesAndUnlinking) {
  std::ofstream(path_) << "kept";
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::remove(path_);
  (*file)->DropPages();
  EXPECT_EQ(AsText((*file)->bytes()), "kept");
}

TEST_F(MappedFileTest, RefusesAMissingFile) { ExpectRefused(absl::StatusCode::kNotFound); }

TEST_F(MappedFileTest, RefusesAnEmptyFile) {
  std::ofstream stream(path_);
  ExpectRefused(absl::StatusCode::kInvalidArgument);
}

TEST_F(MappedFileTest, RefusesAFolder) {
  std::filesystem::create_directory(path_);
  ExpectRefused(absl::StatusCode::kInvalidArgument);
}

TEST_F(MappedFileTest, RefusesAFifoWithoutWaitingForItsWriter) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  ExpectRefused(absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise
