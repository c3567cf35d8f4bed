#include "seqvae/kernels/optimizer.hpp"

#include "kernels/optimizer/blocks.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {

template <class Real>
void check(const AdamWArgs<Real>& a) {
  const char* where = "adamw";
  require(a.count >= 0, where, "count", a.count, ">= 0");
  require(a.beta1 >= 0 && a.beta1 < 1, where, "beta1", a.beta1, "in [0, 1)");
  require(a.beta2 >= 0 && a.beta2 < 1, where, "beta2", a.beta2, "in [0, 1)");
  require(a.epsilon >= 0, where, "epsilon", a.epsilon, ">= 0");
  require(a.weight_decay >= 0, where, "weight_decay", a.weight_decay, ">= 0");
  require(a.l2 >= 0, where, "l2", a.l2, ">= 0");
  require(a.clip_norm >= 0, where, "clip_norm", a.clip_norm, ">= 0");
  require(a.clip_value >= 0, where, "clip_value", a.clip_value, ">= 0");
  require_pointer(a.step, where, "step");
  require_pointer(a.norm, where, "norm");
  if (a.count == 0) return;
  require_pointer(a.parameters, where, "parameters");
  require_pointer(a.gradients, where, "gradients");
  require_pointer(a.m, where, "m");
  require_pointer(a.v, where, "v");
}

void check(const AdamWStep& step) {
  const char* where = "adamw";
  require(step.update >= 1, where, "step.update", step.update, ">= 1");
  require(step.learning_rate >= 0, where, "step.learning_rate", step.learning_rate, ">= 0");
}

std::size_t cuda::adamw_workspace_bytes() { return kMostBlocks * sizeof(double); }

template void check(const AdamWArgs<float>&);
template void check(const AdamWArgs<double>&);

}  // namespace seqvae
