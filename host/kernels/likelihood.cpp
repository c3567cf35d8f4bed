#include "seqvae/kernels/likelihood.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {
void require_kind(Likelihood kind, const char* where) {
  const int value = static_cast<int>(kind);
  if (value < 0 || value > static_cast<int>(Likelihood::poisson)) {
    require(false, where, "kind", value, "a Likelihood");
  }
}
}  // namespace

template <class Real>
void check(const LikelihoodArgs<Real>& a) {
  const char* where = "likelihood";
  require_kind(a.kind, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_optional_input(a.mask, where, "mask");
  require_input(a.logits, some, where, "logits");
  require_output(a.log_likelihood, a.rows, 1, where, "log_likelihood");
}

template <class Real>
void check(const LikelihoodBackwardArgs<Real>& a) {
  const char* where = "likelihood_backward";
  require_kind(a.kind, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_optional_input(a.mask, where, "mask");
  require_input(a.logits, some, where, "logits");
  require_input(a.grad_log_likelihood, some, where, "grad_log_likelihood");
  require_output(a.grad_logits, a.rows, a.D, where, "grad_logits");
}

template <class Real>
void check(const LikelihoodSampleArgs<Real>& a) {
  const char* where = "likelihood_sample";
  require_kind(a.kind, where);
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  const std::int64_t rows = rows_to_check(a.noise.layout);
  const bool some = rows > 0 && a.D > 0;
  NoiseArgs<Real> noise = a.noise;
  noise.eps = {};
  require_noise(noise, a.D, some, where);
  require_input(a.logits, some, where, "logits");
  require_output(a.x, rows, a.D, where, "x");
}

template <class Real>
void check(const LikelihoodMeanArgs<Real>& a) {
  const char* where = "likelihood_mean";
  require_kind(a.kind, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.logits, a.rows > 0 && a.D > 0, where, "logits");
  require_output(a.mean, a.rows, a.D, where, "mean");
}

template void check(const LikelihoodArgs<float>&);
template void check(const LikelihoodArgs<double>&);
template void check(const LikelihoodBackwardArgs<float>&);
template void check(const LikelihoodBackwardArgs<double>&);
template void check(const LikelihoodSampleArgs<float>&);
template void check(const LikelihoodSampleArgs<double>&);
template void check(const LikelihoodMeanArgs<float>&);
template void check(const LikelihoodMeanArgs<double>&);

}  // namespace seqvae
