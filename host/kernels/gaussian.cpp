#include "seqvae/kernels/gaussian.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {
template <class Real>
void require_map(ScaleMap map, Real floor, const char* where) {
  const int value = static_cast<int>(map);
  if (value < 0 || value > static_cast<int>(ScaleMap::softplus_std)) {
    require(false, where, "map", value, "a ScaleMap");
  }
  if (!(floor >= 0)) require(false, where, "floor", floor, ">= 0");
}

/// A prior is given whole or not at all.
template <class Real>
void require_prior(const Rows<const Real>& mu_p, const Rows<const Real>& logvar_p,
                   const char* where) {
  require_input(mu_p, static_cast<bool>(logvar_p), where, "mu_p");
  require_input(logvar_p, static_cast<bool>(mu_p), where, "logvar_p");
}
}  // namespace

template <class Real>
void check(const GaussianHeadArgs<Real>& a) {
  const char* where = "gaussian_head";
  require_map(a.map, a.floor, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  require_input(a.raw, a.rows > 0 && a.D > 0, where, "raw");
  require_output(a.logvar, a.rows, a.D, where, "logvar");
}

template <class Real>
void check(const GaussianHeadBackwardArgs<Real>& a) {
  const char* where = "gaussian_head_backward";
  require_map(a.map, a.floor, where);
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.raw, some, where, "raw");
  require_input(a.grad_logvar, some, where, "grad_logvar");
  require_output(a.grad_raw, a.rows, a.D, where, "grad_raw");
}

template <class Real>
void check(const GaussianSampleArgs<Real>& a) {
  const char* where = "gaussian_sample";
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  const std::int64_t rows = rows_to_check(a.noise.layout);
  const bool some = rows > 0 && a.D > 0;
  require_noise(a.noise, a.D, some, where);
  require_input(a.mu, some, where, "mu");
  require_input(a.logvar, some, where, "logvar");
  require_output(a.z, rows, a.D, where, "z");
}

template <class Real>
void check(const GaussianSampleBackwardArgs<Real>& a) {
  const char* where = "gaussian_sample_backward";
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  const std::int64_t rows = rows_to_check(a.noise.layout);
  const bool some = rows > 0 && a.D > 0;
  require_noise(a.noise, a.D, some, where);
  require_input(a.logvar, some, where, "logvar");
  require_input(a.grad_z, some, where, "grad_z");
  require_optional_output(a.grad_mu, rows, a.D, where, "grad_mu");
  require_output(a.grad_logvar, rows, a.D, where, "grad_logvar");
}

template <class Real>
void check(const GaussianKlArgs<Real>& a) {
  const char* where = "gaussian_kl";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.mu_q, some, where, "mu_q");
  require_input(a.logvar_q, some, where, "logvar_q");
  require_prior(a.mu_p, a.logvar_p, where);
  require_optional_output(a.kl, a.rows, a.D, where, "kl");
  require_optional_output(a.kl_sum, a.rows, 1, where, "kl_sum");
}

template <class Real>
void check(const GaussianKlBackwardArgs<Real>& a) {
  const char* where = "gaussian_kl_backward";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.mu_q, some, where, "mu_q");
  require_input(a.logvar_q, some, where, "logvar_q");
  require_prior(a.mu_p, a.logvar_p, where);
  require_optional_input(a.grad_kl, where, "grad_kl");
  require_optional_input(a.grad_kl_sum, where, "grad_kl_sum");
  require_optional_output(a.grad_mu_q, a.rows, a.D, where, "grad_mu_q");
  require_optional_output(a.grad_logvar_q, a.rows, a.D, where, "grad_logvar_q");
  require_optional_output(a.grad_mu_p, a.rows, a.D, where, "grad_mu_p");
  require_optional_output(a.grad_logvar_p, a.rows, a.D, where, "grad_logvar_p");
}

template <class Real>
void check(const GaussianSampleKlArgs<Real>& a) {
  const char* where = "gaussian_sample_kl";
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  const std::int64_t rows = rows_to_check(a.noise.layout);
  const bool some = rows > 0 && a.D > 0;
  require_noise(a.noise, a.D, some, where);
  require_input(a.mu_q, some, where, "mu_q");
  require_input(a.logvar_q, some, where, "logvar_q");
  require_prior(a.mu_p, a.logvar_p, where);
  require_output(a.z, rows, a.D, where, "z");
  require_output(a.kl_sum, rows, 1, where, "kl_sum");
}

template <class Real>
void check(const GaussianSampleKlBackwardArgs<Real>& a) {
  const char* where = "gaussian_sample_kl_backward";
  require_layout(a.noise.layout, where);
  require_size(a.D, where, "D");
  const std::int64_t rows = rows_to_check(a.noise.layout);
  const bool some = rows > 0 && a.D > 0;
  require_noise(a.noise, a.D, some, where);
  require_input(a.mu_q, some, where, "mu_q");
  require_input(a.logvar_q, some, where, "logvar_q");
  require_prior(a.mu_p, a.logvar_p, where);
  require_input(a.grad_z, some, where, "grad_z");
  require_input(a.grad_kl_sum, some, where, "grad_kl_sum");
  require_output(a.grad_mu_q, rows, a.D, where, "grad_mu_q");
  require_output(a.grad_logvar_q, rows, a.D, where, "grad_logvar_q");
  require_optional_output(a.grad_mu_p, rows, a.D, where, "grad_mu_p");
  require_optional_output(a.grad_logvar_p, rows, a.D, where, "grad_logvar_p");
}

template <class Real>
void check(const GaussianLogDensityArgs<Real>& a) {
  const char* where = "gaussian_log_density";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_optional_input(a.mask, where, "mask");
  require_input(a.mu, some, where, "mu");
  require_input(a.logvar, some, where, "logvar");
  require_output(a.log_density, a.rows, 1, where, "log_density");
}

template <class Real>
void check(const GaussianLogDensityBackwardArgs<Real>& a) {
  const char* where = "gaussian_log_density_backward";
  require_size(a.rows, where, "rows");
  require_size(a.D, where, "D");
  const bool some = a.rows > 0 && a.D > 0;
  require_input(a.x, some, where, "x");
  require_optional_input(a.mask, where, "mask");
  require_input(a.mu, some, where, "mu");
  require_input(a.logvar, some, where, "logvar");
  require_input(a.grad_log_density, some, where, "grad_log_density");
  require_optional_output(a.grad_x, a.rows, a.D, where, "grad_x");
  require_optional_output(a.grad_mu, a.rows, a.D, where, "grad_mu");
  require_optional_output(a.grad_logvar, a.rows, a.D, where, "grad_logvar");
}

template void check(const GaussianHeadArgs<float>&);
template void check(const GaussianHeadArgs<double>&);
template void check(const GaussianHeadBackwardArgs<float>&);
template void check(const GaussianHeadBackwardArgs<double>&);
template void check(const GaussianSampleArgs<float>&);
template void check(const GaussianSampleArgs<double>&);
template void check(const GaussianSampleBackwardArgs<float>&);
template void check(const GaussianSampleBackwardArgs<double>&);
template void check(const GaussianKlArgs<float>&);
template void check(const GaussianKlArgs<double>&);
template void check(const GaussianKlBackwardArgs<float>&);
template void check(const GaussianKlBackwardArgs<double>&);
template void check(const GaussianSampleKlArgs<float>&);
template void check(const GaussianSampleKlArgs<double>&);
template void check(const GaussianSampleKlBackwardArgs<float>&);
template void check(const GaussianSampleKlBackwardArgs<double>&);
template void check(const GaussianLogDensityArgs<float>&);
template void check(const GaussianLogDensityArgs<double>&);
template void check(const GaussianLogDensityBackwardArgs<float>&);
template void check(const GaussianLogDensityBackwardArgs<double>&);

}  // namespace seqvae
