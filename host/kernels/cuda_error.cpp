#include <string>

#include "kernels/common/runtime.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::cuda {

void throw_cuda_error(const char* call, const char* message, std::source_location place) {
  throw CudaError(call, message, place);
}

void throw_no_room(const char* where) {
  throw InvalidArgument(std::string(where) +
                        ": needs more shared memory than a block of the device has");
}

void require_workspace(const void* workspace, std::size_t bytes, std::size_t needed,
                       const char* where) {
  if (needed == 0) return;
  require_pointer(workspace, where, "workspace");
  require(reinterpret_cast<std::uintptr_t>(workspace) % 16 == 0, where, "workspace", workspace,
          "aligned to 16 bytes");
  require(bytes >= needed, where, "workspace_bytes", bytes, fmt::format(">= {}", needed));
}

}  // namespace seqvae::cuda
