#include "core/engine/admission.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

namespace reprise {
namespace {

constexpr int32_t kOften = kMaxPassedOver;

struct Case {
  const char* name;
  std::vector<QueuedRequest> window;  // tokens, cached, preempted, passed over
  size_t next;
};

const Case kCases[] = {
    {"one alone", {{10, 0, false, 0}}, 0},
    {"nothing cached: in order of arrival", {{90, 0, false, 0}, {10, 0, false, 0}}, 0},
    {"a cached prefix goes first", {{90, 0, false, 0}, {90, 60, false, 0}}, 1},
    {"fewest tokens to compute go first",
     {{90, 60, false, 0}, {400, 390, false, 0}, {90, 70, false, 0}},
     1},
    {"as many to compute: in order of arrival", {{90, 60, false, 0}, {130, 100, false, 0}}, 0},
    {"half is enough", {{90, 0, false, 0}, {90, 45, false, 0}}, 1},
    {"less than half is not worth a place", {{90, 0, false, 0}, {90, 44, false, 0}}, 0},
    {"a preempted one goes before all",
     {{90, 0, true, 0}, {90, 89, false, 0}, {90, 0, false, kOften}},
     0},
    {"preempted ones keep their order", {{90, 0, true, 0}, {90, 89, true, 0}}, 0},
    {"one that was passed over often goes before a cached one",
     {{90, 0, false, 0}, {90, 0, false, kOften}, {90, 89, false, 0}},
     1},
    {"of those the oldest goes first", {{90, 0, false, kOften}, {90, 89, false, kOften + 1}}, 0},
    {"passed over less often it waits", {{90, 0, false, kOften - 1}, {90, 89, false, 0}}, 1},
};

TEST(AdmissionTest, TakesTheNextByTheTable) {
  for (const Case& c : kCases) EXPECT_EQ(NextToAdmit(c.window), c.next) << c.name;
}

// Cached requests keep coming in, three for each that is taken up.
TEST(AdmissionTest, NobodyIsPassedOverForEver) {
  std::mt19937 random(5);
  std::deque<QueuedRequest> queue;
  int overtaken = 0;
  for (int round = 0; round < 20000; ++round) {
    while (queue.size() < 100) {
      const auto tokens = static_cast<int32_t>(1 + random() % 1000);
      queue.push_back({tokens, static_cast<int32_t>(random() % tokens), false, 0});
    }
    const auto size = std::min(queue.size(), kAdmissionWindow);
    const std::vector<QueuedRequest> window(queue.begin(), queue.begin() + size);
    const size_t next = NextToAdmit(window);
    ASSERT_LT(next, size);
    for (size_t i = 0; i < next; ++i) {
      ASSERT_LE(++queue[i].passed_over, kMaxPassedOver) << "round " << round;
      ++overtaken;
    }
    queue.erase(queue.begin() + static_cast<int64_t>(next));
  }
  EXPECT_GT(overtaken, 20000) << "the order made no difference";
}

}  // namespace
}  // namespace reprise
