// Identifiers and sizes shared by every module.
//
// Units      a position is a 0-based token index inside one sequence.
// Threading  plain values.
#pragma once

#include <cstdint>

namespace reprise {

using TokenId = int32_t;
using BlockId = int32_t;
using SequenceId = uint64_t;

// Tokens per KV block in memory. Blocks lie on multiples of this in a sequence.
inline constexpr int kBlockTokens = 16;

// Tokens per durable segment: up to four blocks in order. Full segments lie on
// multiples of this in a sequence.
inline constexpr int kSegmentTokens = 64;

inline constexpr int kBlocksPerSegment = kSegmentTokens / kBlockTokens;

}  // namespace reprise
