// What the parts of store_bench share.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/store/rocksdb_store.h"

namespace reprise::bench {

constexpr int kPromptTokens = 1024;  // of every prompt: whole segments

// The same prompt for the same number.
std::vector<TokenId> PromptOf(int64_t number);

// The namespace of all that is stored.
Digest BenchIdentity();

// The segments of a prompt, each with `bytes` of payload that are not compressible.
std::vector<SegmentWrite> SegmentsOf(const std::vector<TokenId>& prompt, int64_t bytes);

// Ends the program where the store cannot do it.
void Require(const absl::Status& status, const std::string& what);
std::unique_ptr<KvStore> OpenStore(const RocksDbOptions& options);

// Bytes of the process in memory.
int64_t ResidentBytes();

double Percentile(std::vector<double> values, double share);

// Each prints one line of JSON; words follow the command's name.
void Fill(const std::vector<std::string>& words);
void Open(const std::vector<std::string>& words);
void Lookup(const std::vector<std::string>& words);
void Load(const std::vector<std::string>& words);
void Churn(const std::vector<std::string>& words);

}  // namespace reprise::bench
