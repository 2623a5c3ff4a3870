// A RocksDbStore in a folder of its own, and what a test needs to look behind it.
#pragma once

#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/store/rocksdb_store.h"

namespace reprise {

inline constexpr int kPayloadBytes = 1000;

inline Digest Identity(uint8_t byte) {
  Digest identity;
  identity.fill(byte);
  return identity;
}

inline SegmentWrite MakeWrite(int seed, int tokens = kSegmentTokens, uint8_t identity = 9) {
  SegmentWrite write;
  write.record.kind = tokens == kSegmentTokens ? SegmentKind::kFull : SegmentKind::kTail;
  write.record.identity = Identity(identity);
  write.record.parent = write.record.identity;
  for (int i = 0; i < tokens; ++i) write.record.ids.push_back(seed * 100 + i);
  write.record.key = ComputeSegmentKey(write.record.kind, write.record.parent, write.record.ids);
  std::mt19937 random(seed);
  for (int i = 0; i < kPayloadBytes; ++i) write.payload.push_back(static_cast<uint8_t>(random()));
  write.record.payload_bytes = kPayloadBytes;
  return write;
}

inline absl::Status Read(KvStore& store, const SegmentRecord& record,
                         std::vector<uint8_t>* out = nullptr) {
  std::vector<uint8_t> payload(kPayloadBytes);
  const absl::Status status = store.ReadSegment(record, absl::MakeSpan(payload));
  if (out != nullptr) *out = payload;
  return status;
}

inline std::vector<SegmentRecord> Records(KvStore& store, uint8_t identity = 9) {
  std::vector<SegmentRecord> records;
  EXPECT_TRUE(store
                  .ForEachSegment(Identity(identity),
                                  [&](SegmentRecord record) { records.push_back(record); })
                  .ok());
  return records;
}

inline std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Changes the database behind the store's back.
inline void EditDatabase(
    const std::string& path,
    const std::function<void(rocksdb::DB&, rocksdb::ColumnFamilyHandle* segments,
                             rocksdb::ColumnFamilyHandle* records)>& edit) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : {"default", "segments", "records", "prompts"}) {
    families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  }
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const auto status = rocksdb::DB::Open(rocksdb::DBOptions(), path, families, &handles, &db);
  ASSERT_TRUE(status.ok()) << status.ToString();
  edit(*db, handles[1], handles[2]);
  for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
  db->Close();
  delete db;
}

// How many keys a family holds, whether or not the store knows them.
struct KeyCounts {
  int segments = 0, records = 0;
};
inline KeyCounts CountKeys(const std::string& path) {
  KeyCounts counts;
  const auto count = [](rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family) {
    int keys = 0;
    const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(rocksdb::ReadOptions(), family));
    for (it->SeekToFirst(); it->Valid(); it->Next()) ++keys;
    return keys;
  };
  EditDatabase(path, [&](rocksdb::DB& db, auto* segments, auto* records) {
    counts = {count(db, segments), count(db, records)};
  });
  return counts;
}

inline rocksdb::Slice KeyOf(const SegmentRecord& record) {
  return {reinterpret_cast<const char*>(record.key.data()), record.key.size()};
}

// An empty folder for each test.
class RocksDbFolderTest : public ::testing::Test {
 protected:
  RocksDbFolderTest() : path_(::testing::TempDir() + "/rocksdb-" + std::to_string(getpid())) {
    std::filesystem::remove_all(path_);
  }
  ~RocksDbFolderTest() override { std::filesystem::remove_all(path_); }

  std::unique_ptr<KvStore> Open() {
    auto store = OpenRocksDbStore({path_});
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }

  const std::string path_;
};

}  // namespace reprise
