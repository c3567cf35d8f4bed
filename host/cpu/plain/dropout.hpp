// Dropout as its equation in index order: what double runs, and what the tuned float is held to.
#pragma once
#include "seqvae/kernels/dropout.hpp"

#include "host/cpu/plain/row_places.hpp"

namespace seqvae::cpu::plain {

template <class Real>
void dropout(const DropoutArgs<Real>& a) {
  const Real factor = 1 / (1 - a.rate);
  for_each_row(a.noise.layout, [&](const RowPlace& place) {
    Words random{};
    for (std::int64_t d = 0; d < a.D; ++d) {
      Real& y = a.y[place.row][d];
      if (!place.valid) {
        y = 0;
        continue;
      }
      if (!a.noise.eps && d % 4 == 0) random = noise_words(a.noise, place, a.D, d / 4);
      const Real u =
          a.noise.eps ? a.noise.eps[place.row][d] : static_cast<Real>(uniform(random.w[d % 4]));
      y = u >= a.rate ? factor * a.x[place.row][d] : Real{0};
    }
  });
}

}  // namespace seqvae::cpu::plain
