// The contracts that a step calls, written down instead of run.
#pragma once
#include <cstring>
#include <variant>
#include <vector>

#include "seqvae/kernels/chain.hpp"

namespace seqvae {

template <class Real>
class ChainRecorder {
 public:
  using Arguments =
      std::variant<DenseArgs<Real>, ActivationArgs<Real>, ActivationBackwardArgs<Real>,
                   MultiplyAddArgs<Real>, GatedMixArgs<Real>, GatedMixBackwardArgs<Real>,
                   SelectArgs<Real>, GruCellArgs<Real>, GruCellBackwardArgs<Real>,
                   LstmCellArgs<Real>, LstmCellBackwardArgs<Real>, GaussianHeadArgs<Real>,
                   GaussianHeadBackwardArgs<Real>, GaussianSampleArgs<Real>,
                   GaussianSampleBackwardArgs<Real>>;

  template <class Args>
  void add(const Args& args) {
    if constexpr (std::is_constructible_v<Arguments, std::in_place_type_t<Args>, Args>) {
      calls.emplace_back(args);
    } else {
      all_are_stages = false;
    }
  }

  std::vector<Arguments> calls;
  bool all_are_stages = true;  ///< false: some contract is none that a chain runs
};

}  // namespace seqvae
