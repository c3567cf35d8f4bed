#include "seqvae/core/dlpack.hpp"

#include <dlpack/dlpack.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace seqvae {
namespace {

constexpr int kBool = 6;  // kDLBool, which DLPack 0.6 has not: one byte, 0 or 1

struct Code {
  DType dtype;
  int code;
};

constexpr Code kCodes[] = {
    {DType::float32, kDLFloat}, {DType::float64, kDLFloat}, {DType::int8, kDLInt},
    {DType::int16, kDLInt},     {DType::int32, kDLInt},     {DType::int64, kDLInt},
    {DType::uint8, kDLUInt},    {DType::uint16, kDLUInt},   {DType::uint32, kDLUInt},
    {DType::uint64, kDLUInt},   {DType::boolean, kBool}};

DType dtype_from(DLDataType type) {
  require(type.lanes == 1, "from_dlpack", "dtype.lanes", type.lanes, "1");
  for (const auto& [dtype, code] : kCodes) {
    if (type.code == code && type.bits == 8 * bytes_of(dtype)) return dtype;
  }
  throw InvalidArgument(fmt::format(
      "from_dlpack: dtype = code {} of {} bits, must be float32 or 64 (code 2), int8 to "
      "64 (0), uint8 to 64 (1) or bool (6)",
      type.code, type.bits));
}

DLDataType dtype_to(DType wanted) {
  for (const auto& [dtype, code] : kCodes) {
    if (dtype == wanted) {
      return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(8 * bytes_of(dtype)), 1};
    }
  }
  throw InvalidArgument("to_dlpack: dtype is none of DType");
}

Device device_from(const DLDevice& device) {
  // By bytes: a newer framework's device may be no value of this enumeration.
  std::int32_t type;
  static_assert(sizeof type == sizeof device.device_type);
  std::memcpy(&type, &device.device_type, sizeof type);
  require(type == kDLCPU || type == kDLCUDA, "from_dlpack", "device.device_type", type,
          "1 (CPU) or 2 (CUDA)");
  if (type == kDLCPU) return Device::cpu();
  require(device.device_id >= 0, "from_dlpack", "device.device_id", device.device_id, ">= 0");
  return Device::cuda_unchecked(device.device_id);
}

/// Of a shape whose elements can be counted: so no product overflows.
std::vector<std::int64_t> contiguous_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * std::max<std::int64_t>(shape[i], 1);
  }
  return strides;
}

/// Whether the elements stand without gaps; along an axis of one element no stride is taken.
bool same_places(const std::int64_t* strides, const std::vector<std::int64_t>& contiguous,
                 const std::vector<std::int64_t>& shape) {
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1 && strides[i] != contiguous[i]) return false;
  }
  return true;
}

/// Another framework's tensor, given back when nobody looks at it any more.
struct Taken {
  DLManagedTensor* tensor = nullptr;
  Taken() = default;
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;
  ~Taken() {
    if (tensor != nullptr && tensor->deleter != nullptr) tensor->deleter(tensor);
  }
};

/// Our tensor in another framework's hands.
struct Given {
  Tensor tensor;
  std::vector<std::int64_t> strides;
  DLManagedTensor managed;
};

}  // namespace

Tensor from_dlpack(DLManagedTensor* managed) {
  require_pointer(managed, "from_dlpack", "tensor");
  const DLTensor& t = managed->dl_tensor;
  const Device device = device_from(t.device);
  const DType dtype = dtype_from(t.dtype);
  require(t.ndim >= 0, "from_dlpack", "ndim", t.ndim, ">= 0");
  if (t.ndim > 0) require_pointer(t.shape, "from_dlpack", "shape");
  std::vector<std::int64_t> shape(t.shape, t.shape + t.ndim);

  const auto taken = std::make_shared<Taken>();
  std::byte* first = static_cast<std::byte*>(t.data);
  if (first != nullptr) first += t.byte_offset;
  Tensor tensor(dtype, std::move(shape), device, std::shared_ptr<void>(taken, first));
  if (t.strides != nullptr && tensor.count() > 0) {
    const std::vector<std::int64_t> contiguous = contiguous_strides(tensor.shape());
    require(same_places(t.strides, contiguous, tensor.shape()), "from_dlpack", "strides",
            text_of({t.strides, contiguous.size()}),
            fmt::format("{}, contiguous", text_of(contiguous)));
  }
  taken->tensor = managed;  // last: what is thrown above leaves it to the caller
  return tensor;
}

DLManagedTensor* to_dlpack(const Tensor& tensor) {
  auto given = std::make_unique<Given>(Given{tensor, contiguous_strides(tensor.shape()), {}});
  DLManagedTensor& managed = given->managed;
  DLTensor& t = managed.dl_tensor;
  t.data = tensor.data();
  t.device = {tensor.device().is_cpu() ? kDLCPU : kDLCUDA, tensor.device().index()};
  t.ndim = static_cast<int>(tensor.shape().size());
  t.dtype = dtype_to(tensor.dtype());
  t.shape = const_cast<std::int64_t*>(given->tensor.shape().data());  // the taker only reads it
  t.strides = given->strides.data();
  managed.manager_ctx = given.get();
  managed.deleter = [](DLManagedTensor* self) { delete static_cast<Given*>(self->manager_ctx); };
  given.release();
  return &managed;
}

}  // namespace seqvae
