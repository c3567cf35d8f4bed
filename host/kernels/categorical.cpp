#include "seqvae/kernels/categorical.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {
/// Sizes of a row and of its groups. \return the columns of a row
std::int64_t require_groups(std::int64_t groups, std::int64_t C, const char* where) {
  require_size(groups, where, "groups");
  require_size(C, where, "C");
  require_size(groups * C, where, "groups C");
  return groups * C;
}
}  // namespace

template <class Real>
void check(const SoftmaxArgs<Real>& a) {
  const char* where = "softmax";
  require_size(a.rows, where, "rows");
  const std::int64_t D = require_groups(a.groups, a.C, where);
  require_input(a.logits, a.rows > 0 && D > 0, where, "logits");
  require_output(a.p, a.rows, D, where, "p");
}

template <class Real>
void check(const SoftmaxBackwardArgs<Real>& a) {
  const char* where = "softmax_backward";
  require_size(a.rows, where, "rows");
  const std::int64_t D = require_groups(a.groups, a.C, where);
  require_input(a.p, a.rows > 0 && D > 0, where, "p");
  require_input(a.grad_p, a.rows > 0 && D > 0, where, "grad_p");
  require_output(a.grad_logits, a.rows, D, where, "grad_logits");
}

template <class Real>
void check(const OneHotSampleArgs<Real>& a) {
  const char* where = "one_hot_sample";
  require_layout(a.noise.layout, where);
  const std::int64_t D = require_groups(a.groups, a.C, where);
  const std::int64_t rows = a.noise.layout.rows_at_most();
  require_noise(a.noise, a.groups, rows > 0 && D > 0, where);
  require_input(a.p, rows > 0 && D > 0, where, "p");
  require_output(a.y, rows, D, where, "y");
}

template <class Real>
void check(const CategoricalKlArgs<Real>& a) {
  const char* where = "categorical_kl";
  require_size(a.rows, where, "rows");
  const std::int64_t D = require_groups(a.groups, a.C, where);
  require_input(a.logits_q, a.rows > 0 && D > 0, where, "logits_q");
  require_input(a.logits_p, a.rows > 0 && D > 0, where, "logits_p");
  require_output(a.kl_sum, a.rows, 1, where, "kl_sum");
}

template <class Real>
void check(const CategoricalKlBackwardArgs<Real>& a) {
  const char* where = "categorical_kl_backward";
  require_size(a.rows, where, "rows");
  const std::int64_t D = require_groups(a.groups, a.C, where);
  const bool some = a.rows > 0 && D > 0;
  require_input(a.logits_q, some, where, "logits_q");
  require_input(a.logits_p, some, where, "logits_p");
  require_input(a.grad_kl_sum, some, where, "grad_kl_sum");
  require_optional_output(a.grad_logits_q, a.rows, D, where, "grad_logits_q");
  require_optional_output(a.grad_logits_p, a.rows, D, where, "grad_logits_p");
}

template void check(const SoftmaxArgs<float>&);
template void check(const SoftmaxArgs<double>&);
template void check(const SoftmaxBackwardArgs<float>&);
template void check(const SoftmaxBackwardArgs<double>&);
template void check(const OneHotSampleArgs<float>&);
template void check(const OneHotSampleArgs<double>&);
template void check(const CategoricalKlArgs<float>&);
template void check(const CategoricalKlArgs<double>&);
template void check(const CategoricalKlBackwardArgs<float>&);
template void check(const CategoricalKlBackwardArgs<double>&);

}  // namespace seqvae
