// DLPack in both directions: the same memory, given back once, and what is refused.
#include "seqvae/core/dlpack.hpp"

#include <dlpack/dlpack.h>
#include <gmock/gmock.h>

#include <cstring>
#include <optional>
#include <string>

namespace seqvae::test {
namespace {

using testing::ElementsAre;

/// A tensor as another framework hands it out: 3 x 2 floats, unless a test says otherwise.
struct Foreign {
  std::vector<float> elements{0, 1, 2, 3, 4, 5};
  std::vector<std::int64_t> shape{3, 2}, strides{2, 1};
  int given_back = 0;
  DLManagedTensor managed{};

  Foreign() {
    DLTensor& t = managed.dl_tensor;
    t.data = elements.data();
    t.device = {kDLCPU, 0};
    t.ndim = 2;
    t.dtype = {kDLFloat, 32, 1};
    t.shape = shape.data();
    t.strides = strides.data();
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* self) {
      ++static_cast<Foreign*>(self->manager_ctx)->given_back;
    };
  }
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;
};

TEST(FromDlpack, UsesTheMemoryInPlace) {
  Foreign foreign;
  {
    const Tensor x = from_dlpack(&foreign.managed);
    EXPECT_EQ(x.dtype(), DType::float32);
    EXPECT_THAT(x.shape(), ElementsAre(3, 2));
    EXPECT_EQ(x.data(), foreign.elements.data());
    x.slice(1, 2).values<float>()[0] = 7;
  }
  EXPECT_THAT(foreign.elements, ElementsAre(0, 1, 7, 3, 4, 5));
}

TEST(FromDlpack, GivesBackOnceWhenTheLastViewIsGone) {
  Foreign foreign;
  std::optional<Tensor> whole = from_dlpack(&foreign.managed);
  std::optional<Tensor> view = whole->slice(2, 3), empty = whole->slice(0, 0);
  whole.reset();
  EXPECT_EQ(foreign.given_back, 0);
  view.reset();
  EXPECT_EQ(foreign.given_back, 0);
  empty.reset();
  EXPECT_EQ(foreign.given_back, 1);
}

TEST(FromDlpack, TakesWhatNobodyWantsBack) {
  Foreign foreign;
  foreign.managed.deleter = nullptr;
  EXPECT_EQ(from_dlpack(&foreign.managed).count(), 6);
}

TEST(FromDlpack, StartsAtTheByteOffset) {
  Foreign foreign;
  foreign.managed.dl_tensor.byte_offset = 8;
  foreign.shape = {2, 2};
  EXPECT_THAT(from_dlpack(&foreign.managed).values<float>(), ElementsAre(2, 3, 4, 5));
}

TEST(FromDlpack, AsksForNoStrideWhereNoneIsTaken) {
  Foreign null;
  null.managed.dl_tensor.strides = nullptr;
  EXPECT_EQ(from_dlpack(&null.managed).count(), 6);

  Foreign single;  // an axis of one element
  single.shape = {1, 6}, single.strides = {99, 1};
  EXPECT_EQ(from_dlpack(&single.managed).count(), 6);

  Foreign none;  // no elements: whatever their places, and the pointer
  none.shape = {0, 6}, none.strides = {-1, 5};
  none.managed.dl_tensor.data = nullptr, none.managed.dl_tensor.byte_offset = 3;
  EXPECT_EQ(from_dlpack(&none.managed).count(), 0);
  EXPECT_EQ(none.given_back, 1);

  Foreign scalar;
  scalar.managed.dl_tensor.ndim = 0;
  scalar.managed.dl_tensor.shape = scalar.managed.dl_tensor.strides = nullptr;
  EXPECT_THAT(from_dlpack(&scalar.managed).values<float>(), ElementsAre(0));
}

TEST(FromDlpack, BorrowsCudaMemoryInEveryBuild) {
  Foreign foreign;
  foreign.managed.dl_tensor.device = {kDLCUDA, 1};
  const Tensor rows = from_dlpack(&foreign.managed).slice(1, 3);
  EXPECT_EQ(rows.device().name(), "cuda:1");
  DLManagedTensor* given = to_dlpack(rows);
  EXPECT_EQ(given->dl_tensor.device.device_type, kDLCUDA);
  EXPECT_EQ(given->dl_tensor.device.device_id, 1);
  EXPECT_EQ(given->dl_tensor.data, foreign.elements.data() + 2);
  given->deleter(given);
}

TEST(ToDlpack, SaysWhatTheTensorIs) {
  DLManagedTensor* given = to_dlpack(Tensor(DType::float64, {4, 3, 2}).slice(1, 4));
  const DLTensor& t = given->dl_tensor;
  EXPECT_EQ(t.device.device_type, kDLCPU);
  EXPECT_EQ(t.device.device_id, 0);
  EXPECT_EQ(t.dtype.code, kDLFloat);
  EXPECT_EQ(t.dtype.bits, 64);
  EXPECT_EQ(t.dtype.lanes, 1);
  EXPECT_EQ(t.byte_offset, 0u);
  EXPECT_THAT(std::span(t.shape, static_cast<std::size_t>(t.ndim)), ElementsAre(3, 3, 2));
  EXPECT_THAT(std::span(t.strides, static_cast<std::size_t>(t.ndim)), ElementsAre(6, 2, 1));
  given->deleter(given);
}

TEST(ToDlpack, KeepsTheMemoryAfterTheTensor) {
  int released = 0;
  float elements[2] = {5, 6};
  std::optional<Tensor> x(std::in_place, DType::float32, std::vector<std::int64_t>{2},
                          Device::cpu(),
                          std::shared_ptr<void>(elements, [&](void*) { ++released; }));
  DLManagedTensor* given = to_dlpack(*x);
  x.reset();
  EXPECT_EQ(released, 0);
  EXPECT_EQ(static_cast<float*>(given->dl_tensor.data)[1], 6);
  given->deleter(given);
  EXPECT_EQ(released, 1);
}

TEST(Dlpack, PassesOnWhatItWasGiven) {
  Foreign foreign;
  std::optional<Tensor> back = from_dlpack(to_dlpack(from_dlpack(&foreign.managed).slice(1, 3)));
  EXPECT_THAT(back->values<float>(), ElementsAre(2, 3, 4, 5));
  EXPECT_EQ(foreign.given_back, 0);
  back.reset();
  EXPECT_EQ(foreign.given_back, 1);
}

TEST(Dlpack, CarriesEveryElementType) {
  struct {
    DType dtype;
    int code, bits;
  } types[] = {{DType::float32, 2, 32}, {DType::float64, 2, 64}, {DType::int8, 0, 8},
               {DType::int16, 0, 16},   {DType::int32, 0, 32},   {DType::int64, 0, 64},
               {DType::uint8, 1, 8},    {DType::uint16, 1, 16},  {DType::uint32, 1, 32},
               {DType::uint64, 1, 64},  {DType::boolean, 6, 8}};
  for (const auto& [dtype, code, bits] : types) {
    const Tensor x(dtype, {2, 3});
    DLManagedTensor* given = to_dlpack(x);
    EXPECT_EQ(given->dl_tensor.dtype.code, code) << name_of(dtype);
    EXPECT_EQ(given->dl_tensor.dtype.bits, bits) << name_of(dtype);
    const Tensor back = from_dlpack(given);
    EXPECT_EQ(back.dtype(), dtype) << name_of(dtype);
    EXPECT_EQ(back.shape(), x.shape()) << name_of(dtype);
    EXPECT_EQ(back.data(), x.data()) << name_of(dtype);
  }
}

struct Refusal {
  const char* name;
  void (*spoil)(Foreign& foreign);
  const char* message;
};

class FromDlpackRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(FromDlpackRefuses, NamesTheFieldAndTakesNothing) {
  Foreign foreign;
  GetParam().spoil(foreign);
  EXPECT_THAT([&] { from_dlpack(&foreign.managed); },
              testing::ThrowsMessage<InvalidArgument>(GetParam().message));
  EXPECT_EQ(foreign.given_back, 0);
}

constexpr Refusal kRefusals[] = {
    {"Device", [](Foreign& f) { f.managed.dl_tensor.device.device_type = kDLROCM; },
     "from_dlpack: device.device_type = 10, must be 1 (CPU) or 2 (CUDA)"},
    {"PinnedMemory", [](Foreign& f) { f.managed.dl_tensor.device.device_type = kDLCUDAHost; },
     "from_dlpack: device.device_type = 3, must be 1 (CPU) or 2 (CUDA)"},
    {"NewerDevice",  // than the enumeration
     [](Foreign& f) {
       const std::int32_t maia = 17;
       std::memcpy(&f.managed.dl_tensor.device.device_type, &maia, sizeof maia);
     },
     "from_dlpack: device.device_type = 17, must be 1 (CPU) or 2 (CUDA)"},
    {"DeviceIndex",
     [](Foreign& f) {
       f.managed.dl_tensor.device = {kDLCUDA, -1};
     },
     "from_dlpack: device.device_id = -1, must be >= 0"},
    {"Lanes", [](Foreign& f) { f.managed.dl_tensor.dtype.lanes = 4; },
     "from_dlpack: dtype.lanes = 4, must be 1"},
    {"Bfloat16",
     [](Foreign& f) {
       f.managed.dl_tensor.dtype = {kDLBfloat, 16, 1};
     },
     "from_dlpack: dtype = code 4 of 16 bits, must be float32 or 64 (code 2), int8 to 64 (0), "
     "uint8 to 64 (1) or bool (6)"},
    {"Float16", [](Foreign& f) { f.managed.dl_tensor.dtype.bits = 16; },
     "from_dlpack: dtype = code 2 of 16 bits, must be float32 or 64 (code 2), int8 to 64 (0), "
     "uint8 to 64 (1) or bool (6)"},
    {"Rank", [](Foreign& f) { f.managed.dl_tensor.ndim = -1; },
     "from_dlpack: ndim = -1, must be >= 0"},
    {"NoShape", [](Foreign& f) { f.managed.dl_tensor.shape = nullptr; },
     "from_dlpack: shape is null, must point to memory"},
    {"NegativeShape",
     [](Foreign& f) {
       f.shape = {3, -2};
     },
     "Tensor: shape = [3, -2], must be >= 0 along each axis and at most 2^63 - 1 bytes"},
    {"HugeShape",
     [](Foreign& f) {
       f.shape = {1ll << 40, 1ll << 21};
     },
     "Tensor: shape = [1099511627776, 2097152], must be >= 0 along each axis and at most "
     "2^63 - 1 bytes"},
    {"NoData", [](Foreign& f) { f.managed.dl_tensor.data = nullptr; },
     "Tensor: data is null, must point to memory"},
    {"Transposed",
     [](Foreign& f) {
       f.strides = {1, 3};
     },
     "from_dlpack: strides = [1, 3], must be [2, 1], contiguous"},
    {"Gaps",
     [](Foreign& f) {
       f.strides = {4, 1};
     },
     "from_dlpack: strides = [4, 1], must be [2, 1], contiguous"},
    {"Broadcast",
     [](Foreign& f) {
       f.strides = {0, 1};
     },
     "from_dlpack: strides = [0, 1], must be [2, 1], contiguous"},
};
INSTANTIATE_TEST_SUITE_P(, FromDlpackRefuses, testing::ValuesIn(kRefusals),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(FromDlpack, RefusesMisalignedElements) {
  Foreign foreign;
  foreign.shape = {1, 2};
  foreign.managed.dl_tensor.byte_offset = 2;
  const void* place = reinterpret_cast<std::byte*>(foreign.elements.data()) + 2;
  EXPECT_THAT([&] { from_dlpack(&foreign.managed); },
              testing::ThrowsMessage<InvalidArgument>(
                  fmt::format("Tensor: data = {}, must be aligned to 4 bytes", fmt::ptr(place))));
  EXPECT_EQ(foreign.given_back, 0);
}

TEST(FromDlpack, RefusesNull) {
  EXPECT_THAT(
      [] { from_dlpack(nullptr); },
      testing::ThrowsMessage<InvalidArgument>("from_dlpack: tensor is null, must point to memory"));
}

}  // namespace
}  // namespace seqvae::test
