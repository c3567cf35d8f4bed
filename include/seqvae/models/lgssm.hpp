/// \file  The linear-Gaussian state-space model: exact likelihood, states, forecasts, in float64.
///
/// The equations are those of kernels/kalman.hpp. A model is given by its matrices, or by a form
/// whose free parameters theta are found by maximum likelihood:
///
///     structural  y = level + trend + seasonal + irregular (Harvey 1989), one column:
///                 level     l' = l + b + N(0, s_level),   trend  b' = b + N(0, s_trend)
///                 seasonal  harmonics j = 1..k of a period p, each a rotation by 2 pi j / p with
///                           noise N(0, s_seasonal I);  irregular  R = s_irregular
///                 all states start diffuse; theta = log of the variances that are free
///     general     n states, A and C free, Q, R and P0 diagonal, free offset of y; B and D free
///     where
///                 there are controls; theta = matrices, then logs of the variances
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "seqvae/data/sequence_set.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae {

/// Dense arrays of a model that is constant in time; row-major.
struct LgssmMatrices {
  std::int64_t n = 0, m = 0, U = 0;
  std::vector<double> A, B, Q, C, D, R, m0, P0;  ///< B and D empty where U = 0
  std::vector<double> offset;                    ///< [m]  of y
  std::vector<std::uint8_t> diffuse;             ///< [n]  or empty
  KalmanModel<double> view() const;              ///< points into this object
};

class Lgssm {
 public:
  /// {"A", "C", "Q", "R", and "m0", "P0" or "diffuse": true; optionally "B", "D"}: nested arrays by
  /// rows. \throws InputError naming key and rule.
  static Lgssm given(const io::JsonView& config);
  /// The keys of a configuration that is fitted, with defaults.
  static io::Json default_configuration();
  /// {"form": "structural" | "general", ...} for D columns and U controls, theta at its start.
  /// `scale`: variance of the data's steps, from which variances start.
  static Lgssm of(const io::JsonView& configuration, const data::SequenceSet& set);

  const LgssmMatrices& matrices() const { return matrices_; }
  const std::vector<double>& theta() const { return theta_; }
  const std::vector<std::string>& theta_names() const { return names_; }
  void set_theta(std::span<const double> theta);

  /// Sum over rows that count, nats; gradient [theta] where asked for.
  /// \throws Error naming sequence and step where a covariance is not positive definite, or the
  /// sequence whose diffuse start the data never resolves.
  double log_likelihood(const data::SequenceSet& set,
                        std::vector<double>* gradient = nullptr) const;

 private:
  enum class Form { given, structural, general };
  void update_matrices();
  void chain(const LgssmMatrices& grad, std::vector<double>& gradient) const;

  Form form_ = Form::given;
  LgssmMatrices matrices_;
  std::vector<double> theta_;
  std::vector<std::string> names_;
  /// structural: which diagonal entries of Q (or R: -1) each theta sets.
  std::vector<std::vector<std::int64_t>> entries_;
};

/// Filtered moments of one sequence, rows as in the set. `diffuse_steps` of them are NaN.
struct LgssmFiltered {
  std::vector<double> mean, covariance, factor, log_likelihood;
  std::int32_t diffuse_steps = 0;
};
LgssmFiltered lgssm_filter(const LgssmMatrices& model, const data::SequenceSet& set,
                           std::int64_t sequence);

}  // namespace seqvae
