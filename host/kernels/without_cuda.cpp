// What stands for kernels/ in a library built without them. Nothing here is reached: there is no
// CUDA device then. A program that is linked with kernels, as the emulator's tests are, takes
// those.
#include "host/kernels/contracts.hpp"
#include "kernels/common/runtime.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::cuda {
namespace {
[[noreturn]] void refuse() { throw Error("CUDA: this library was built without it"); }
}  // namespace

int device_count() { return 0; }
void* allocate(std::size_t) { refuse(); }
void release(void*) noexcept {}
void copy(void*, const void*, std::size_t, Stream) { refuse(); }
void clear(void*, std::size_t, Stream) { refuse(); }
void use_device(int) { refuse(); }
Stream create_stream() { refuse(); }
void destroy_stream(Stream) noexcept {}
void synchronize(Stream) { refuse(); }

Graph::~Graph() = default;
void Graph::replay() { refuse(); }
void Graph::begin() { refuse(); }
void Graph::end() { refuse(); }
void Graph::abandon() noexcept {}

bool chain_fits(const ChainArgs<float>&) { refuse(); }

#define SEQVAE_REFUSE(name, Args) \
  void name(const Args<float>&, Stream) { refuse(); }
SEQVAE_CONTRACTS(SEQVAE_REFUSE)
#undef SEQVAE_REFUSE

#define SEQVAE_REFUSE(name, Args)                 \
  template <class Real>                           \
  void name(const Args<Real>&, Stream) {          \
    refuse();                                     \
  }                                               \
  template void name(const Args<float>&, Stream); \
  template void name(const Args<double>&, Stream);
SEQVAE_KALMAN_CONTRACTS(SEQVAE_REFUSE)
#undef SEQVAE_REFUSE

}  // namespace seqvae::cuda
