// Element types and shapes.
#include "seqvae/core/dtype.hpp"

#include <gmock/gmock.h>

#include <vector>

namespace seqvae::test {
namespace {

TEST(ElementCount, RefusesWhatOverflows) {
  EXPECT_EQ(element_count(std::vector<std::int64_t>{}, 8), 1);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{3, 0, 4}, 8), 0);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{1ll << 32, 1ll << 32, 0}, 1), -1);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{1ll << 60}, 8), -1);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{-1}, 8), -1);
}

}  // namespace
}  // namespace seqvae::test
