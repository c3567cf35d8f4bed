/// \file  Dropout: y = x / (1 - rate) where a uniform of core/random.hpp is at least `rate`, else
/// 0.
///
/// Srivastava et al., JMLR 15, 2014. The map is linear in x, so its gradient is the same call on
/// grad_y with the same noise: nothing is stored.
#pragma once
#include "seqvae/kernels/gaussian.hpp"

namespace seqvae {

template <class Real>
struct DropoutArgs {
  std::int64_t D = 0;     ///< rows are noise.layout's
  NoiseArgs<Real> noise;  ///< eps: uniforms in (0, 1)
  Real rate = 0;          ///< in [0, 1)
  Rows<const Real> x;     ///< [rows][D]; not read where it is dropped
  Rows<Real> y;           ///< out [rows][D]  0 in padding; may be x
};

/// \throws InvalidArgument naming argument, value and rule. The twin calls it first.
template <class Real>
void check(const DropoutArgs<Real>& args);

namespace cuda {  ///< Enqueues one kernel on the stream; capturable; the same bits in every run.
void dropout(const DropoutArgs<float>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void dropout(const DropoutArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae
