/// \file  The linear-Gaussian state-space model with constant matrices, exact, in float64.
///
///     z_0 ~ N(m0, P0),   z_t = A z_{t-1} + B u_t + b + q_t,   q_t ~ N(0, Q)
///                        y_t = C z_t     + D u_t + d + r_t,   r_t ~ N(0, R)
///
/// kernels/kalman.hpp has the conventions and the sources; docs/models/lgssm.md a page for users.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "seqvae/core/machine.hpp"
#include "seqvae/data/sequence_set.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/kernels/kalman.hpp"

namespace seqvae {

/// Row-major; what is empty is zero.
struct LgssmMatrices {
  std::int64_t n = 0, m = 0, U = 0;   ///< states, observed columns, controls
  std::vector<double> A, B, b;        ///< [n][n], [n][U], [n]
  std::vector<double> C, D, d;        ///< [m][n], [m][U], [m]
  std::vector<double> Q, R;           ///< [n][n], [m][m]  symmetric, positive semidefinite
  std::vector<double> m0, P0;         ///< [n], [n][n]
  std::vector<std::uint8_t> diffuse;  ///< [n]  1: no information at the start; empty: none

  /// Keys A C Q R, m0 and P0 or "diffuse" (true, or a list of true and false), B D b d: nested
  /// arrays by rows. \throws InputError naming key and rule.
  static LgssmMatrices from_json(const io::JsonView& json);
  io::Json to_json() const;
  KalmanModel<double> view() const;
};

class Lgssm {
 public:
  using Progress = std::function<void(std::int64_t done, std::int64_t all)>;

  /// `machine` must outlive this: on the CPU the sequences are dealt to its threads, on a CUDA
  /// device they are taken all at once. Null: one thread of the CPU.
  explicit Lgssm(LgssmMatrices matrices, Machine* machine = nullptr);
  const LgssmMatrices& matrices() const { return matrices_; }

  // All of the following take sets with D = m and U, in the set's order and units, and throw
  // InvalidArgument where the widths differ or where a sequence does not determine its diffuse
  // states ("sequence 3: ..."), Error where a covariance is not positive definite. A CUDA device
  // takes no diffuse states, and n and m up to 64.

  /// log p(y_t | y_0 .. y_{t-1}) of each row, nats: [R].
  std::vector<double> log_likelihood(const data::SequenceSet& set,
                                     const Progress& progress = {}) const;

  /// Standardised one-step prediction errors [R][m]: independent and N(0, 1) where the model holds.
  /// A column's is given the columns before it. NaN where missing, and where diffuse states leave
  /// it without a law: one for each.
  std::vector<double> innovations(const data::SequenceSet& set,
                                  const Progress& progress = {}) const;

  /// NaN in what is still diffuse: filtered moments of components that have no variance yet.
  struct States {
    std::vector<double> filtered_mean, filtered_covariance;  ///< [R][n], [R][n][n]
    std::vector<double> smoothed_mean, smoothed_covariance;
  };
  States states(const data::SequenceSet& set, const Progress& progress = {}) const;

  /// S joint draws of a set's states given its observations: [S][R][n].
  std::vector<double> sample_states(const data::SequenceSet& set, std::int64_t S,
                                    std::uint64_t seed) const;

  /// H steps after each sequence's end, noise of the observation included.
  struct Forecast {
    std::vector<double> mean, covariance;  ///< [N][H][m], [N][H][m][m]
    std::vector<double> samples;           ///< [S][N][H][m]
  };
  /// controls: [N * H][U] of the steps to come.
  Forecast forecast(const data::SequenceSet& context, std::int64_t H,
                    std::span<const double> controls, std::int64_t S, std::uint64_t seed,
                    const Progress& progress = {}) const;

  /// Missing entries given all observed ones; seen entries are the data, std 0.
  struct Imputation {
    std::vector<double> mean, std;  ///< [R][m]
    std::vector<double> samples;    ///< [S][R][m]
  };
  Imputation impute(const data::SequenceSet& set, std::int64_t S, std::uint64_t seed,
                    const Progress& progress = {}) const;

  /// `count` sequences from the model: [count * steps][m]. controls: [count * steps][U]. Diffuse
  /// states start at 0.
  std::vector<double> generate(std::int64_t steps, std::int64_t count,
                               std::span<const double> controls, std::uint64_t seed) const;

 private:
  LgssmMatrices matrices_;
  Machine* machine_;
};

}  // namespace seqvae
