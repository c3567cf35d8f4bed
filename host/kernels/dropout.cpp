#include "seqvae/kernels/dropout.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {

template <class Real>
void check(const DropoutArgs<Real>& a) {
  const char* where = "dropout";
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  if (!(a.rate >= 0 && a.rate < 1)) require(false, where, "rate", a.rate, "in [0, 1)");
  const std::int64_t rows = a.noise.layout.rows_at_most();
  const bool some = rows > 0 && a.D > 0;
  require_noise(a.noise, a.D, some, where);
  require_input(a.x, some, where, "x");
  require_output(a.y, rows, a.D, where, "y");
}

template void check(const DropoutArgs<float>&);
template void check(const DropoutArgs<double>&);

}  // namespace seqvae
