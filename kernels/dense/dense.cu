// Large products, by cuBLASLt, operands in float32 or rounded to bfloat16 on their way. A row-major
// matrix is to it the transpose of a column-major one: y = left right is y^T = right^T left^T, with
// the factors where they stand. A weight gradient, whose sums are long, is a batch of slices by
// sizes alone, and their sum.
// Floor: arithmetic, 2 M N K flop. Hazards: the library may not split sums, whose order would hang
// on the device's load. The algorithm is found once for all that it hangs on, alignments among it,
// since a captured stream must not be asked. Its epilogue for relu makes 0 of a NaN, which is why
// an activation is a pass of its own.
#include <cublasLt.h>

#include <map>
#include <mutex>
#include <source_location>
#include <utility>

#include "kernels/common/launch.cuh"
#include "kernels/common/load_store.cuh"
#include "kernels/common/rows.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/dense/products.hpp"
#include "kernels/dense/slices.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cuda {
namespace {

void check_cublas(cublasStatus_t status, const char* call,
                  std::source_location place = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw_cuda_error(call, cublasLtGetStatusString(status), place);
  }
}

/// y[M][N] = left[M][K] right[K][N] + addend + bias. A transposed factor stands as [K][M] or
/// [N][K].
struct Product {
  std::int64_t M, N, K;
  Rows<const float> left, right;
  bool left_transposed, right_transposed;
  Rows<const float> addend;  ///< [M][N]  optional; may be y
  const float* bias;         ///< [N]  optional
  Rows<float> y;             ///< out [M][N]
  Precision precision;
  std::int64_t batches = 1;  ///< as many products, so many elements apart
  std::int64_t left_apart = 0, right_apart = 0, y_apart = 0;
};

/// All that an algorithm hangs on.
struct Shape {
  int device;
  std::int64_t M, N, K, left_stride, right_stride, addend_stride, y_stride;
  bool left_transposed, right_transposed, adds, has_bias;
  Precision precision;
  std::int64_t batches, left_apart, right_apart, y_apart;
  std::uint32_t left_alignment, right_alignment, addend_alignment, y_alignment, bias_alignment;
  auto operator<=>(const Shape&) const = default;
};

struct Plan {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t left, right, addend, y;
  cublasLtMatmulAlgo_t algorithm;
};

// For as long as the process runs.
std::mutex mutex;
std::map<int, cublasLtHandle_t> handles;  // by device
std::map<Shape, Plan> plans;

/// 16, 8 or 4 bytes; no load is wider.
std::uint32_t alignment_of(const float* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : 4;
}

cublasLtHandle_t handle_of(int device) {
  const auto found = handles.find(device);
  if (found != handles.end()) return found->second;
  cublasLtHandle_t handle = nullptr;
  check_cublas(cublasLtCreate(&handle), "cublasLtCreate");
  return handles[device] = handle;
}

template <class Value>
void set(cublasLtMatmulDescOpaque_t& operation, cublasLtMatmulDescAttributes_t attribute,
         const Value& value) {
  check_cublas(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
}

void set(cublasLtMatmulPreferenceOpaque_t& preference,
         cublasLtMatmulPreferenceAttributes_t attribute, std::uint32_t value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
}

/// Of a row-major matrix [rows][columns].
void set(cublasLtMatrixLayoutOpaque_t& layout, std::int64_t rows, std::int64_t columns,
         std::int64_t stride) {
  check_cublas(cublasLtMatrixLayoutInit(&layout, CUDA_R_32F, static_cast<std::uint64_t>(columns),
                                        static_cast<std::uint64_t>(rows), stride),
               "cublasLtMatrixLayoutInit");
}

void set_batches(cublasLtMatrixLayoutOpaque_t& layout, std::int64_t batches, std::int64_t apart) {
  const std::int32_t count = static_cast<std::int32_t>(batches);
  check_cublas(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                sizeof count),
               "cublasLtMatrixLayoutSetAttribute");
  check_cublas(cublasLtMatrixLayoutSetAttribute(
                   &layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &apart, sizeof apart),
               "cublasLtMatrixLayoutSetAttribute");
}

cublasOperation_t operation_of(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

Plan make_plan(const Shape& s, cublasLtHandle_t handle) {
  Plan plan;
  const auto compute =
      s.precision == Precision::bfloat16 ? CUBLAS_COMPUTE_32F_FAST_16BF : CUBLAS_COMPUTE_32F;
  check_cublas(cublasLtMatmulDescInit(&plan.operation, compute, CUDA_R_32F),
               "cublasLtMatmulDescInit");
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, operation_of(s.right_transposed));
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, operation_of(s.left_transposed));
  if (s.has_bias) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    // The search looks at the alignment of the bias, and at nothing else of it.
    const void* bias = reinterpret_cast<const void*>(std::uintptr_t{s.bias_alignment});
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  const bool left = s.left_transposed, right = s.right_transposed;
  set(plan.left, left ? s.K : s.M, left ? s.M : s.K, s.left_stride);
  set(plan.right, right ? s.N : s.K, right ? s.K : s.N, s.right_stride);
  set(plan.addend, s.M, s.N, s.addend_stride);
  set(plan.y, s.M, s.N, s.y_stride);
  if (s.batches > 1) {
    set_batches(plan.left, s.batches, s.left_apart);
    set_batches(plan.right, s.batches, s.right_apart);
    set_batches(plan.addend, s.batches, s.y_apart);
    set_batches(plan.y, s.batches, s.y_apart);
  }

  cublasLtMatmulPreferenceOpaque_t preference;  // no workspace, unless told otherwise
  check_cublas(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_NONE);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.right_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.left_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.addend_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.y_alignment);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, &plan.operation, &plan.right, &plan.left, &plan.addend,
                                     &plan.y, &preference, 1, &best, &found);
  check_cublas(status == CUBLAS_STATUS_SUCCESS && found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status,
               "cublasLtMatmulAlgoGetHeuristic");
  check_cublas(best.state, "cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = best.algo;
  return plan;
}

void multiply(const Product& p, Stream stream) {
  Shape shape{};
  check_cuda(cudaGetDevice(&shape.device), "cudaGetDevice");
  // Without an addend the library still wants to be shown one: y, which it does not read.
  const Rows<const float> addend = p.addend ? p.addend : Rows<const float>(p.y);
  shape.M = p.M, shape.N = p.N, shape.K = p.K;
  shape.left_stride = p.left.stride, shape.right_stride = p.right.stride;
  shape.addend_stride = addend.stride, shape.y_stride = p.y.stride;
  shape.left_transposed = p.left_transposed, shape.right_transposed = p.right_transposed;
  shape.adds = static_cast<bool>(p.addend), shape.has_bias = p.bias != nullptr;
  shape.precision = p.precision;
  shape.batches = p.batches, shape.left_apart = p.left_apart;
  shape.right_apart = p.right_apart, shape.y_apart = p.y_apart;
  shape.left_alignment = alignment_of(p.left.data);
  shape.right_alignment = alignment_of(p.right.data);
  shape.addend_alignment = alignment_of(addend.data);
  shape.y_alignment = alignment_of(p.y.data);
  shape.bias_alignment = shape.has_bias ? alignment_of(p.bias) : 16;

  const float alpha = 1, beta = shape.adds ? 1 : 0;
  // Until the product is enqueued: the bias's address is a part of the plan.
  const std::lock_guard lock(mutex);
  const cublasLtHandle_t handle = handle_of(shape.device);
  auto plan = plans.find(shape);
  if (plan == plans.end()) plan = plans.emplace(shape, make_plan(shape, handle)).first;
  Plan& q = plan->second;
  if (shape.has_bias) {
    const void* bias = p.bias;
    set(q.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  check_cublas(cublasLtMatmul(handle, &q.operation, &alpha, p.right.data, &q.right, p.left.data,
                              &q.left, &beta, addend.data, &q.addend, p.y.data, &q.y, &q.algorithm,
                              nullptr, 0, static_cast<cudaStream_t>(stream.handle())),
               "cublasLtMatmul");
}

/// One row has no stride of its own: any will do.
template <class Real>
Rows<Real> rows_of(Rows<Real> matrix, std::int64_t rows, std::int64_t width) {
  return {matrix.data, rows > 1 ? matrix.stride : width};
}

/// y = slices in their order, in double; added to y where asked.
__global__ void __launch_bounds__(kRowThreads)
    add_slices(const float* slices, std::int64_t count, std::int64_t rows, std::int64_t D,
               bool accumulate, int lanes, bool wide, Rows<float> y) {
  for_each_quad(rows, D, lanes, [&](std::int64_t row, std::int64_t d) {
    double x0 = 0.0, x1 = 0.0, x2 = 0.0, x3 = 0.0;
    const auto add = [&](float4 quad) {
      x0 += static_cast<double>(quad.x), x1 += static_cast<double>(quad.y);
      x2 += static_cast<double>(quad.z), x3 += static_cast<double>(quad.w);
    };
    if (accumulate) add(load_quad(y[row], d, D, wide));
#pragma unroll 8
    for (std::int64_t s = 0; s < count; ++s) {
      add(load_quad(slices + (s * rows + row) * D, d, D, wide));
    }
    store_quad(y[row], d, D, wide,
               make_float4(static_cast<float>(x0), static_cast<float>(x1), static_cast<float>(x2),
                           static_cast<float>(x3)));
  });
}

void fill_with_zeros(Rows<float> matrix, std::int64_t rows, std::int64_t width, Stream stream) {
  const bool dense = matrix.stride == width;
  const std::size_t bytes = static_cast<std::size_t>(dense ? rows * width : width) * sizeof(float);
  for (std::int64_t r = 0; r < (dense ? 1 : rows); ++r) {
    check_cuda(cudaMemsetAsync(matrix[r], 0, bytes, static_cast<cudaStream_t>(stream.handle())),
               "cudaMemsetAsync");
  }
}

}  // namespace

void dense_by_library(const DenseArgs<float>& a, Stream stream) {
  const std::int64_t M = a.M, N = a.W.N, K = a.W.K;
  const Rows<float> y = rows_of(a.y, M, N);
  // An addend that is one row for all is a bias; beside a bias, a pass of its own.
  const bool one_row = a.addend && a.addend.stride == 0 && M > 1;
  const float* bias = a.bias;
  const float* second_bias = one_row ? a.addend.data : nullptr;
  if (bias == nullptr) std::swap(bias, second_bias);
  Product p{};
  p.M = M, p.N = N, p.K = K;
  p.left = rows_of(a.x, M, K);
  const auto [W_rows, W_width] = a.W.transposed ? std::pair(K, N) : std::pair(N, K);
  p.right = rows_of<const float>({a.W.data, a.W.stride}, W_rows, W_width);
  p.right_transposed = !a.W.transposed;
  if (a.addend && !one_row) p.addend = rows_of(a.addend, M, N);
  p.bias = bias;
  p.y = y;
  p.precision = a.precision;
  multiply(p, stream);
  if (second_bias != nullptr) multiply_add({M, N, 1, 1, y, {}, {second_bias, 0}, y}, stream);
  if (a.activated) {
    activation_backward({a.activation, M, N, a.activated, y, y}, stream);
  } else if (a.activation != Activation::identity) {
    activation({a.activation, M, N, y, y}, stream);
  }
}

void dense_weight_gradient(const DenseWeightGradientArgs<float>& a, Stream stream) {
  check(a);
  const std::int64_t M = a.M, N = a.N, K = a.K;
  require_workspace(a.workspace, a.workspace_bytes, dense_weight_gradient_workspace_bytes(M, N, K),
                    "dense_weight_gradient");
  const Rows<float> grad_W = rows_of(a.grad_W, N, K);
  const Rows<const float> grad_y = rows_of(a.grad_y, M, N), x = rows_of(a.x, M, K);
  if (a.grad_bias != nullptr) {
    sum_over_rows({M, N, a.accumulate, grad_y, a.grad_bias, a.workspace, a.workspace_bytes},
                  stream);
  }
  if (M == 0) {
    if (!a.accumulate) fill_with_zeros(grad_W, N, K, stream);
    return;
  }
  Product p{};
  p.M = N, p.N = K, p.K = M;
  p.left = grad_y, p.left_transposed = true;
  p.right = x;
  p.precision = a.precision;
  const GradientSlices slices = gradient_slices(M, N, K);
  if (slices.count() == 1) {
    if (a.accumulate) p.addend = grad_W;
    p.y = grad_W;
    return multiply(p, stream);
  }
  float* sums = static_cast<float*>(a.workspace);  // [slice][N][K]
  p.K = slices.length, p.y = {sums, K};
  p.batches = slices.full, p.y_apart = N * K;
  p.left_apart = slices.length * grad_y.stride, p.right_apart = slices.length * x.stride;
  multiply(p, stream);
  if (slices.rest > 0) {
    const std::int64_t first = slices.full * slices.length;
    p.K = slices.rest, p.y = {sums + slices.full * N * K, K};
    p.left = {grad_y[first], grad_y.stride}, p.right = {x[first], x.stride};
    p.batches = 1, p.left_apart = p.right_apart = p.y_apart = 0;
    multiply(p, stream);
  }
  const int lanes = lanes_for(K);
  launch(add_slices, row_shape(N, lanes), stream, sums, slices.count(), N, K, a.accumulate, lanes,
         all_fit_float4(K, Rows<const float>(sums, K), grad_W), grad_W);
}

}  // namespace seqvae::cuda
