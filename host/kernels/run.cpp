#include "seqvae/kernels/run.hpp"

#include "host/kernels/contracts.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

// Overloads for each contract, so that the one template below reads all of them alike.
#define SEQVAE_TWINS(name, Args)                                                       \
  template <class Real>                                                                \
  void on_cpu(const Args<Real>& args) {                                                \
    cpu::name(args);                                                                   \
  }                                                                                    \
  void on_stream(const Args<float>& args, Stream stream) { cuda::name(args, stream); } \
  void on_stream(const Args<double>&, Stream) {                                        \
    require(false, #name, "precision", "float64", "float32 on a CUDA device");         \
  }
SEQVAE_CONTRACTS(SEQVAE_TWINS)
#undef SEQVAE_TWINS

#define SEQVAE_TWINS(name, Args)                          \
  template <class Real>                                   \
  void on_cpu(const Args<Real>& args) {                   \
    cpu::name(args);                                      \
  }                                                       \
  template <class Real>                                   \
  void on_stream(const Args<Real>& args, Stream stream) { \
    cuda::name(args, stream);                             \
  }
SEQVAE_KALMAN_CONTRACTS(SEQVAE_TWINS)
#undef SEQVAE_TWINS

}  // namespace

template <class Args>
void run(const Args& args, const Queue& queue) {
  if (queue.device().is_cpu()) {
    on_cpu(args);
  } else {
    on_stream(args, queue.stream());
  }
}

template <class Args>
std::size_t kalman_workspace_bytes(const Args& args, const Queue& queue) {
  return queue.device().is_cpu() ? kalman_workspace_bytes(args)
                                 : cuda::kalman_workspace_bytes(args);
}

template <class Real>
bool chain_fits(const ChainArgs<Real>& args, const Queue& queue) {
  if (queue.device().is_cpu()) return true;
  if constexpr (std::is_same_v<Real, float>) return cuda::chain_fits(args);
  return false;
}
template bool chain_fits(const ChainArgs<float>&, const Queue&);
template bool chain_fits(const ChainArgs<double>&, const Queue&);

#define SEQVAE_INSTANTIATE(name, Args)                 \
  template void run(const Args<float>&, const Queue&); \
  template void run(const Args<double>&, const Queue&);
SEQVAE_CONTRACTS(SEQVAE_INSTANTIATE)
SEQVAE_KALMAN_CONTRACTS(SEQVAE_INSTANTIATE)
#undef SEQVAE_INSTANTIATE

#define SEQVAE_INSTANTIATE(name, Args)                                           \
  template std::size_t kalman_workspace_bytes(const Args<float>&, const Queue&); \
  template std::size_t kalman_workspace_bytes(const Args<double>&, const Queue&);
SEQVAE_KALMAN_CONTRACTS(SEQVAE_INSTANTIATE)
#undef SEQVAE_INSTANTIATE

}  // namespace seqvae
