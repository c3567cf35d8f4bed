#include "kernels/common/runtime.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::cuda {

void throw_cuda_error(const char* call, const char* message, std::source_location place) {
  throw CudaError(call, message, place);
}

}  // namespace seqvae::cuda
