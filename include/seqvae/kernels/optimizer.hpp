/// \file  AdamW with clipping by the global norm, over one flat buffer of parameters.
///
///     norm = sqrt(sum g^2)
///     g' = clamp(g, -clip_value, clip_value) * min(1, clip_norm / (norm + 1e-6)) + l2 p
///     m  = beta1 m + (1 - beta1) g',   v = beta2 v + (1 - beta2) g'^2
///     p -= learning_rate ( m / (1 - beta1^n) / (sqrt(v / (1 - beta2^n)) + epsilon)
///                          + weight_decay p )
///
/// n counts the updates, this one included. Loshchilov & Hutter, arXiv:1711.05101; PyTorch's
/// torch.optim.AdamW after clip_grad_norm_ (whose 1e-6 this is) and, with l2 > 0, the coupled
/// penalty of torch.optim.Adam. A norm that is not finite leaves parameters and moments as they
/// are.
#pragma once
#include <cstddef>
#include <cstdint>

#include "seqvae/core/stream.hpp"

namespace seqvae {

/// What changes from one update to the next. A kernel reads it when it runs, from the memory of the
/// device that it runs on, so that a captured graph goes on as the words change.
struct AdamWStep {
  std::int64_t update = 1;      ///< n >= 1
  double learning_rate = 1e-3;  ///< >= 0
};

template <class Real>
struct AdamWArgs {
  std::int64_t count = 0;            ///< elements; >= 0
  Real* parameters = nullptr;        ///< [count]  updated
  const Real* gradients = nullptr;   ///< [count]
  Real* m = nullptr;                 ///< [count]  first moment, updated
  Real* v = nullptr;                 ///< [count]  second moment, updated
  const Real* decay_mask = nullptr;  ///< [count]  multiplies weight_decay and l2; null: ones
  const AdamWStep* step = nullptr;   ///< [1]
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0, l2 = 0;
  double clip_norm = 0;             ///< 0: no clipping by norm
  double clip_value = 0;            ///< 0: no clipping by value
  double* norm = nullptr;           ///< out [1]  global norm before clipping; not finite: no update
  void* workspace = nullptr;        ///< CUDA: 16-byte aligned; undefined afterwards
  std::size_t workspace_bytes = 0;  ///< CUDA: >= cuda::adamw_workspace_bytes()
};

/// \throws InvalidArgument naming argument, value and rule. The twins call it first. What lies in
/// `step` is checked by the CPU's, not on a device.
template <class Real>
void check(const AdamWArgs<Real>& args);
void check(const AdamWStep& step);

namespace cuda {  ///< Enqueues two kernels on the stream; capturable; the same bits in every run.
std::size_t adamw_workspace_bytes();
void adamw(const AdamWArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void adamw(const AdamWArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae
