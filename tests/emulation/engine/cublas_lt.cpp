// cuBLASLt on the CPU. A product is a launch of one block of one thread, so that it is recorded,
// its memory is looked at and its faults are reported as a kernel's. Sums are float, in order of k.
#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tests/emulation/engine/scheduler.hpp"

struct cublasLtContext {};

namespace seqvae::emulation {
namespace {

/// A stored matrix: `columns` of `rows` elements, `ld` apart.
struct Stored {
  const float* data;
  std::int64_t rows, columns, ld, apart;
};

/// What a fast product makes of an operand: a bfloat16, to nearest, ties to even.
float to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return value;
  return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1)) & 0xFFFF0000u);
}

struct Matmul {
  std::int64_t m, n, k;
  float alpha, beta;
  Stored A, B, C;
  bool transpose_a, transpose_b, bias_added, rounds;
  const float* bias;
  float* D;
  std::int64_t ldd, d_apart, batches;
  std::uint32_t reductions;
  std::uintptr_t place;

  float a(std::int64_t i, std::int64_t l) const {
    const float x = transpose_a ? A.data[l + i * A.ld] : A.data[i + l * A.ld];
    return rounds ? to_bfloat16(x) : x;
  }
  float b(std::int64_t l, std::int64_t j) const {
    const float x = transpose_b ? B.data[j + l * B.ld] : B.data[l + j * B.ld];
    return rounds ? to_bfloat16(x) : x;
  }
};

void touch(const float* data, std::int64_t count, bool write, std::uintptr_t place) {
  running->access(reinterpret_cast<std::uintptr_t>(data),
                  static_cast<std::size_t>(count) * sizeof(float), write, false, place);
}

void read_all(const Stored& matrix, std::uintptr_t place) {
  for (std::int64_t j = 0; j < matrix.columns; ++j) {
    touch(matrix.data + j * matrix.ld, matrix.rows, false, place);
  }
}

// Where sums may be split in place, their order is another from call to call, as on a device.
float dot(const Matmul& p, std::int64_t i, std::int64_t j, bool backwards) {
  float sum = 0;
  for (std::int64_t at = 0; at < p.k; ++at) {
    const std::int64_t l = backwards ? p.k - 1 - at : at;
    sum += p.a(i, l) * p.b(l, j);
  }
  return sum;
}

void multiply_one(const Matmul& p, bool backwards) {
  read_all(p.A, p.place);
  read_all(p.B, p.place);
  if (p.beta != 0) read_all(p.C, p.place);
  if (p.bias_added) touch(p.bias, p.m, false, p.place);
  for (std::int64_t j = 0; j < p.n; ++j) {
    float* const column = p.D + j * p.ldd;
    touch(column, p.m, true, p.place);
    for (std::int64_t i = 0; i < p.m; ++i) {
      float value = p.alpha * dot(p, i, j, backwards);
      if (p.beta != 0) value += p.beta * p.C.data[i + j * p.C.ld];
      if (p.bias_added) value += p.bias[i];
      column[i] = value;
    }
  }
}

void multiply(void* parameters) {
  Matmul p = *static_cast<const Matmul*>(parameters);
  static bool turn = false;
  const bool backwards = (p.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0 && (turn = !turn);
  for (std::int64_t batch = 0; batch < p.batches; ++batch) {
    multiply_one(p, backwards);
    p.A.data += p.A.apart, p.B.data += p.B.apart, p.C.data += p.C.apart, p.D += p.d_apart;
  }
}

/// The algorithm that fits, but for what the preference says.
cublasStatus_t describe(const cublasLtMatmulDescOpaque_t& operation,
                        const cublasLtMatrixLayoutOpaque_t* const (&layouts)[4],
                        cublasLtMatmulAlgo_t& algorithm) {
  const bool known =
      operation.compute == CUBLAS_COMPUTE_32F || operation.compute == CUBLAS_COMPUTE_32F_FAST_16BF;
  if (!known || operation.scale != CUDA_R_32F) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (int i = 0; i < 4; ++i) {
    const cublasLtMatrixLayoutOpaque_t& layout = *layouts[i];
    if (layout.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (layout.rows == 0 || layout.columns == 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (layout.ld < static_cast<std::int64_t>(layout.rows)) return CUBLAS_STATUS_INVALID_VALUE;
    algorithm.lds[i] = layout.ld;
    if (layout.batches < 1 || layout.batches != layouts[0]->batches) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    algorithm.aparts[i] = layout.apart;
  }
  const auto& [A, B, C, D] = layouts;
  const bool ta = operation.transpose_a == CUBLAS_OP_T, tb = operation.transpose_b == CUBLAS_OP_T;
  const std::uint64_t m = ta ? A->columns : A->rows, k = ta ? A->rows : A->columns;
  const std::uint64_t n = tb ? B->rows : B->columns;
  const bool agree = (tb ? B->columns : B->rows) == k && C->rows == m && C->columns == n &&
                     D->rows == m && D->columns == n;
  if (!agree) return CUBLAS_STATUS_INVALID_VALUE;
  const bool bias = operation.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (!bias && operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
  algorithm.m = static_cast<std::int64_t>(m);
  algorithm.n = static_cast<std::int64_t>(n);
  algorithm.k = static_cast<std::int64_t>(k);
  algorithm.batches = A->batches;
  algorithm.transposes = operation.transpose_a + 2 * operation.transpose_b;
  algorithm.epilogue = operation.epilogue;
  return CUBLAS_STATUS_SUCCESS;
}

bool aligned(const void* pointer, std::uint32_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

/// Copies a value into a field of the same size.
template <class Field>
cublasStatus_t set(Field& field, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace seqvae::emulation

using namespace seqvae::emulation;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static cublasLtContext context;
  *handle = &context;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return cudaGetErrorString(cudaErrorLaunchFailure);
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the requested functionality is not supported";
  }
  return "unknown status";
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type,
                                        std::uint64_t rows, std::uint64_t columns,
                                        std::int64_t ld) {
  *layout = {type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return set(layout->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set(layout->apart, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t operation, cublasComputeType_t compute,
                                      cudaDataType scale) {
  *operation = {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(operation->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(operation->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(operation->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(operation->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
  *preference = {0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return set(preference->alignments[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return set(preference->alignments[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return set(preference->alignments[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference->alignments[3], value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

// One algorithm, which needs all the alignment that it may have and takes all the workspace.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                                              cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  *found = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  cublasLtMatmulAlgo_t algorithm{};
  const cublasStatus_t status = describe(*operation, {A, B, C, D}, algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  std::copy_n(preference->alignments, 4, algorithm.alignments);
  for (std::uint32_t& bytes : algorithm.alignments) bytes = std::max(4u, std::min(bytes, 16u));
  algorithm.bias_alignment = aligned(operation->bias, 16)  ? 16
                             : aligned(operation->bias, 8) ? 8
                                                           : 4;
  algorithm.reductions = preference->reductions;
  algorithm.workspace_bytes = preference->workspace_bytes;
  *results = {algorithm, algorithm.workspace_bytes, CUBLAS_STATUS_SUCCESS, 1.0f};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* A, cublasLtMatrixLayout_t A_layout,
                              const void* B, cublasLtMatrixLayout_t B_layout, const void* beta,
                              const void* C, cublasLtMatrixLayout_t C_layout, void* D,
                              cublasLtMatrixLayout_t D_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (algorithm == nullptr) return CUBLAS_STATUS_NOT_SUPPORTED;  // which searches: not in use here
  cublasLtMatmulAlgo_t given{};
  const cublasStatus_t status =
      describe(*operation, {A_layout, B_layout, C_layout, D_layout}, given);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const cublasLtMatmulAlgo_t& found = *algorithm;
  const bool same = given.m == found.m && given.n == found.n && given.k == found.k &&
                    std::equal(given.lds, given.lds + 4, found.lds) &&
                    given.batches == found.batches &&
                    std::equal(given.aparts, given.aparts + 4, found.aparts) &&
                    given.transposes == found.transposes && given.epilogue == found.epilogue;
  const bool fit = aligned(A, found.alignments[0]) && aligned(B, found.alignments[1]) &&
                   aligned(C, found.alignments[2]) && aligned(D, found.alignments[3]);
  if (!same || !fit) return CUBLAS_STATUS_INVALID_VALUE;
  const bool bias = operation->epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (bias && (operation->bias == nullptr || !aligned(operation->bias, found.bias_alignment))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (workspace_bytes < found.workspace_bytes ||
      (found.workspace_bytes > 0 && workspace == nullptr)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (C == D && C_layout->ld != D_layout->ld) return CUBLAS_STATUS_INVALID_VALUE;
  const auto stored = [](const void* data, const cublasLtMatrixLayoutOpaque_t& layout) {
    return Stored{static_cast<const float*>(data), static_cast<std::int64_t>(layout.rows),
                  static_cast<std::int64_t>(layout.columns), layout.ld, layout.apart};
  };
  const Matmul call{given.m,
                    given.n,
                    given.k,
                    *static_cast<const float*>(alpha),
                    *static_cast<const float*>(beta),
                    stored(A, *A_layout),
                    stored(B, *B_layout),
                    stored(C, *C_layout),
                    operation->transpose_a == CUBLAS_OP_T,
                    operation->transpose_b == CUBLAS_OP_T,
                    bias,
                    operation->compute == CUBLAS_COMPUTE_32F_FAST_16BF,
                    static_cast<const float*>(operation->bias),
                    static_cast<float*>(D),
                    D_layout->ld,
                    D_layout->apart,
                    D_layout->batches,
                    found.reductions,
                    reinterpret_cast<std::uintptr_t>(__builtin_return_address(0))};
  cudaLaunchConfig_t config;
  config.stream = stream;
  const cudaError_t error =
      launch(config, reinterpret_cast<const void*>(&cublasLtMatmul), &multiply, &call, sizeof call);
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
