// Walks the rows of a layout in order, with the step, sequence and particle each stands for.
#pragma once
#include <algorithm>
#include <cstdint>

#include "seqvae/kernels/gaussian.hpp"

namespace seqvae::cpu::plain {

struct RowPlace {
  std::int64_t row, t, b, k;  ///< t: the sequence's own time, t0 and origin included
  bool valid;                 ///< false in padding
};

template <class Visit>
void for_each_row(const RowLayout& layout, Visit&& visit) {
  for (std::int64_t step = 0; step < layout.T; ++step) {
    const std::int64_t first = layout.offsets != nullptr ? layout.offsets[step] : step * layout.B;
    const std::int64_t count =
        layout.offsets != nullptr ? layout.offsets[step + 1] - first : layout.B;
    for (std::int64_t b = 0; b < count; ++b) {
      const bool valid = layout.lengths == nullptr || step < layout.lengths[b];
      const std::int64_t t = layout.t0 + step + (layout.origins != nullptr ? layout.origins[b] : 0);
      for (std::int64_t k = 0; k < layout.K; ++k) {
        visit(RowPlace{(first + b) * layout.K + k, t, b, k, valid});
      }
    }
  }
  if (layout.offsets == nullptr) return;
  for (std::int64_t row = layout.offsets[layout.T] * layout.K; row < layout.capacity; ++row) {
    visit(RowPlace{row, 0, 0, 0, false});
  }
}

/// The random words of components 4 * quad .. 4 * quad + 3 of a row.
template <class Real>
Words noise_words(const NoiseArgs<Real>& noise, const RowPlace& place, std::int64_t D,
                  std::int64_t quad) {
  return philox(noise_counter(noise.key.site, *noise.step, noise.sequence_id[place.b],
                              static_cast<std::uint32_t>(place.k), place.t, D, quad),
                noise.key.seed);
}

}  // namespace seqvae::cpu::plain
