#include "seqvae/kernels/reduce.hpp"

#include "host/kernels/check_rows.hpp"
#include "kernels/reduce/chunks.hpp"

namespace seqvae {
namespace {
void require_groups(std::int64_t rows, std::int64_t K, const char* where) {
  require_size(rows, where, "rows");
  if (K < 1 || K > std::numeric_limits<std::int32_t>::max()) {
    require(false, where, "K", K, "from 1 to 2^31 - 1");
  }
}
}  // namespace

template <class Real>
void check(const SumOverTimeArgs<Real>& a) {
  const char* where = "sum_over_time";
  require_layout(a.layout, where);
  require_size(a.D, where, "D");
  require_input(a.x, a.layout.rows_at_most() > 0 && a.D > 0, where, "x");
  require_output(a.y, a.layout.B * a.layout.K, a.D, where, "y");
}

template <class Real>
void check(const SumOverRowsArgs<Real>& a) {
  const char* where = "sum_over_rows";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.x, a.rows > 0 && a.D > 0, where, "x");
  if (a.D > 0) require_pointer(a.y, where, "y");
}

template <class Real>
void check(const LogMeanExpArgs<Real>& a) {
  const char* where = "log_mean_exp";
  require_groups(a.rows, a.K, where);
  if (a.rows == 0) return;
  require_pointer(a.x, where, "x");
  require_pointer(a.y, where, "y");
}

template <class Real>
void check(const LogMeanExpBackwardArgs<Real>& a) {
  const char* where = "log_mean_exp_backward";
  require_groups(a.rows, a.K, where);
  if (a.rows == 0) return;
  require_pointer(a.x, where, "x");
  require_pointer(a.grad_y, where, "grad_y");
  require_pointer(a.grad_x, where, "grad_x");
}

std::size_t cuda::sum_over_rows_workspace_bytes(std::int64_t rows, std::int64_t D) {
  const std::int64_t chunks = chunks_of(rows, D);
  return chunks == 1 ? 0 : static_cast<std::size_t>(chunks * D) * sizeof(double);
}

template void check(const SumOverTimeArgs<float>&);
template void check(const SumOverTimeArgs<double>&);
template void check(const SumOverRowsArgs<float>&);
template void check(const SumOverRowsArgs<double>&);
template void check(const LogMeanExpArgs<float>&);
template void check(const LogMeanExpArgs<double>&);
template void check(const LogMeanExpBackwardArgs<float>&);
template void check(const LogMeanExpBackwardArgs<double>&);

}  // namespace seqvae
