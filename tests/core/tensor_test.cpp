// Tensors: what they share, how long memory stays, what they refuse.
#include "seqvae/core/tensor.hpp"

#include <gmock/gmock.h>

#include <array>
#include <optional>
#include <string>

#include "seqvae/core/error.hpp"

namespace seqvae::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

template <class Function>
void expect_refused(Function function, const std::string& message) {
  EXPECT_THAT(function, testing::ThrowsMessage<InvalidArgument>(message));
}

TEST(Tensor, StartsAsZerosAlignedTo64Bytes) {
  for (const std::int64_t extent : {1, 3, 17, 1000}) {
    const Tensor x(DType::float32, {extent, 3});
    EXPECT_EQ(x.count(), 3 * extent);
    EXPECT_TRUE(x.device().is_cpu());
    EXPECT_THAT(x.values<float>(), Each(0.0f));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.data()) % 64, 0u);
  }
}

TEST(Tensor, HoldsOneElementWithoutAxesAndNoneWithAnEmptyOne) {
  const Tensor one(DType::float64, {});
  one.values<double>()[0] = 3;
  EXPECT_THAT(one.values<double>(), ElementsAre(3));
  EXPECT_THAT(Tensor(DType::int32, {4, 0}).values<std::int32_t>(), IsEmpty());
}

TEST(Tensor, SlicesAreViewsOfTheFirstAxis) {
  const Tensor x(DType::int32, {5, 2});
  for (int i = 0; i < 10; ++i) x.values<std::int32_t>()[static_cast<std::size_t>(i)] = i;
  const Tensor middle = x.slice(1, 4);
  EXPECT_THAT(middle.shape(), ElementsAre(3, 2));
  EXPECT_THAT(middle.values<std::int32_t>(), ElementsAre(2, 3, 4, 5, 6, 7));
  const Tensor row = middle.slice(2, 3);
  EXPECT_THAT(row.values<std::int32_t>(), ElementsAre(6, 7));
  row.values<std::int32_t>()[1] = -1;
  EXPECT_EQ(x.values<std::int32_t>()[7], -1);
  EXPECT_THAT(x.slice(5, 5).values<std::int32_t>(), IsEmpty());
  EXPECT_THAT(x.slice(5, 5).shape(), ElementsAre(0, 2));
  EXPECT_THAT(Tensor(DType::int32, {4, 0}).slice(1, 3).shape(), ElementsAre(2, 0));
}

TEST(Tensor, KeepsMemoryUntilItsLastViewIsGone) {
  int released = 0;
  double elements[4] = {1, 2, 3, 4};
  std::optional<Tensor> whole(std::in_place, DType::float64, std::vector<std::int64_t>{4},
                              Device::cpu(),
                              std::shared_ptr<void>(elements, [&](void*) { ++released; }));
  std::optional<Tensor> view = whole->slice(2, 4);
  std::optional<Tensor> copy = view;
  whole.reset();
  view.reset();
  EXPECT_EQ(released, 0);
  EXPECT_THAT(copy->values<double>(), ElementsAre(3, 4));
  copy.reset();
  EXPECT_EQ(released, 1);
}

TEST(Tensor, GivesItsElementsUnderTheirTypeOnly) {
  const Tensor x(DType::float32, {2}), mask(DType::boolean, {2});
  EXPECT_THAT(mask.values<std::uint8_t>(), ElementsAre(0, 0));
  expect_refused([&] { x.values<double>(); }, "Tensor::values: dtype = float32, must be float64");
  expect_refused([&] { x.values<std::uint8_t>(); },
                 "Tensor::values: dtype = float32, must be uint8");
  expect_refused([&] { mask.values<std::int8_t>(); }, "Tensor::values: dtype = bool, must be int8");
}

TEST(Tensor, KeepsTheHostFromDeviceMemory) {
  float element = 0;
  const Tensor x(DType::float32, {1}, Device::cuda_unchecked(2),
                 std::shared_ptr<void>(&element, [](void*) {}));
  EXPECT_EQ(x.data(), &element);
  expect_refused([&] { x.values<float>(); }, "Tensor::values: device = cuda:2, must be cpu");
}

TEST(Tensor, RefusesShapesThatNoMemoryHas) {
  const std::string rule = ", must be >= 0 along each axis and at most 2^63 - 1 bytes";
  expect_refused([] { Tensor(DType::int8, {2, -1}); }, "Tensor: shape = [2, -1]" + rule);
  expect_refused([] { Tensor(DType::float64, {1ll << 60}); },
                 "Tensor: shape = [1152921504606846976]" + rule);
  expect_refused([] { Tensor(DType::int8, {-3}, Device::cpu(), nullptr); },
                 "Tensor: shape = [-3]" + rule);
}

TEST(Tensor, RefusesMemoryThatIsNullOrMisaligned) {
  expect_refused([] { Tensor(DType::int8, {1}, Device::cpu(), nullptr); },
                 "Tensor: data is null, must point to memory");
  EXPECT_EQ(Tensor(DType::int8, {0}, Device::cpu(), nullptr).data(), nullptr);

  const auto bytes = std::make_shared<std::array<double, 2>>();
  const std::shared_ptr<void> odd(bytes, reinterpret_cast<std::byte*>(bytes.get()) + 4);
  EXPECT_EQ(Tensor(DType::float32, {3}, Device::cpu(), odd).count(), 3);
  expect_refused([&] { Tensor(DType::float64, {1}, Device::cpu(), odd); },
                 fmt::format("Tensor: data = {}, must be aligned to 8 bytes", fmt::ptr(odd.get())));
}

TEST(Tensor, RefusesSlicesOutsideItsFirstAxis) {
  const Tensor x(DType::float32, {4, 2});
  expect_refused([&] { x.slice(0, 5); }, "Tensor::slice: end = 5, must be at most 4, the rows");
  expect_refused([&] { x.slice(-1, 2); }, "Tensor::slice: begin = -1, must be from 0 to end, 2");
  expect_refused([&] { x.slice(3, 2); }, "Tensor::slice: begin = 3, must be from 0 to end, 2");
  expect_refused([&] { x.slice(0, -1); }, "Tensor::slice: begin = 0, must be from 0 to end, -1");
  expect_refused([&] { Tensor(DType::float32, {}).slice(0, 1); },
                 "Tensor::slice: shape = [], must be of one axis or more");
}

}  // namespace
}  // namespace seqvae::test
