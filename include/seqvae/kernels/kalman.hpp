/// \file  Linear-Gaussian state-space models: filter, smoother, gradient, forecast, draws. Exact.
///
///     z_0 ~ N(m0, P0)                                     the state at the first observation
///     z_t = A_t z_{t-1} + B_t u_t + b_t + q_t,  t >= 1,   q_t ~ N(0, Q_t)
///     y_t = C_t z_t     + D_t u_t + d_t + r_t,  t >= 0,   r_t ~ N(0, R_t)
///
/// A_t, B_t, b_t, Q_t lead from step t - 1 to step t: those of t = 0 are not read. Components whose
/// mask is 0 are missing: they drop out of their step. One observed component is taken after the
/// other (a full R is diagonalised first: R = L diag(h) L^T). Covariances are exactly symmetric;
/// the filter keeps them in one of three forms (KalmanForm), the reverse passes in Joseph's.
///
/// Diffuse states. Component i with diffuse[i] != 0 starts with no information, exactly: a flat
/// prior, the limit kappa -> infinity of P0 = kappa e_i e_i^T. With z_0 = delta + rest there, all
/// moments are kept given delta, m + X delta and P, and delta is a regression on the innovations
/// whose root is turned by each observation (de Jong, Annals of Statistics 19, 1991, as a QR
/// decomposition). The log-likelihood is the limit of log L + 1/2 log kappa for each diffuse
/// component (Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd ed., 2012,
/// chapter 5): an observation that adds a direction f = |a|^2 of delta gives -1/2 (log 2 pi + log
/// f). Once delta is known to about the precision of the rest, it is merged into the moments and
/// the filter goes on without it.
///
/// Smoothed moments and gradients come from one reverse pass without inverting a covariance (Durbin
/// and Koopman 2012, sections 4.4 and 5.3), so singular Q and P are allowed. Derived and measured
/// in docs/kernels/kalman.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "seqvae/core/random.hpp"
#include "seqvae/core/stream.hpp"
#include "seqvae/core/threads.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae {

/// A small matrix or vector for each step and sequence, row-major. That of (t, b) starts at
/// data + t * step + b * sequence; a stride of 0 shares it. In a packed layout, where both strides
/// are non-zero, it starts at data + (row of t, b) * sequence instead.
template <class Real>
struct StepArray {
  Real* data = nullptr;
  std::int64_t step = 0;      ///< elements from one step to the next; 0: constant in time
  std::int64_t sequence = 0;  ///< elements from one sequence to the next; 0: shared

  StepArray() = default;
  StepArray(Real* data_, std::int64_t step_ = 0, std::int64_t sequence_ = 0)
      : data(data_), step(step_), sequence(sequence_) {}
  /// An array that may be written may be read.
  template <class Writable>
  requires(std::is_same_v<Real, const Writable> && !std::is_const_v<Writable>)
      StepArray(const StepArray<Writable>& array)
      : data(array.data), step(array.step), sequence(array.sequence) {}
  SEQVAE_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

/// The model's arrays. Optional ones that are not given are zero.
template <class Real>
struct KalmanModel {
  std::int64_t n = 0;                        ///< state dimensions; >= 1
  std::int64_t m = 0;                        ///< observed dimensions; >= 1
  std::int64_t U = 0;                        ///< controls; 0: none
  StepArray<const Real> A;                   ///< [n][n]
  StepArray<const Real> B;                   ///< [n][U]  optional
  StepArray<const Real> state_offset;        ///< [n]  b; optional
  StepArray<const Real> Q;                   ///< [n][n]  symmetric, positive semidefinite
  StepArray<const Real> C;                   ///< [m][n]
  StepArray<const Real> D;                   ///< [m][U]  optional
  StepArray<const Real> observation_offset;  ///< [m]  d; optional
  StepArray<const Real> R;                   ///< [m][m]  symmetric, positive semidefinite;
  bool diagonal_R = false;                   ///<   given as its diagonal [m] where this is true
  StepArray<const Real> m0;                  ///< [n]  step is not read; optional
  StepArray<const Real> P0;                  ///< [n][n]  step is not read; rows and columns of
                                             ///<   diffuse components are not read, nor is their m0
  const std::uint8_t* diffuse = nullptr;     ///< [n]  1: diffuse; null: none. double only
};

/// How the filter keeps a covariance. covariance is the cheapest and loses digits where an
/// observation is much more precise than the state was known; joseph stays positive semidefinite to
/// rounding; square_root keeps S with P = S S^T, and twice the digits of the small directions.
enum class KalmanForm { covariance, joseph, square_root };

/// square_root in float, joseph in double.
template <class Real>
inline constexpr KalmanForm kDefaultKalmanForm = sizeof(Real) < sizeof(double)
                                                     ? KalmanForm::square_root
                                                     : KalmanForm::joseph;

/// What is observed. Padding is not read; in a packed layout there is none.
template <class Real>
struct KalmanData {
  RowLayout layout;       ///< K must be 1
  Rows<const Real> y;     ///< [rows][m]  not read where missing
  Rows<const Real> mask;  ///< [rows][m]  1 observed, 0 missing; not given: all observed
  Rows<const Real> u;     ///< [rows][U]
};

/// With diffuse components, q of them: moments given delta = 0 in the steps before delta is merged
/// into the moments (row t of a sequence b for t < merge_step[b]), and what is then known of it.
template <class Real>
struct KalmanDiffuse {
  Rows<Real> mean;        ///< [rows][n]  filtered
  Rows<Real> covariance;  ///< [rows][n * n]
  Rows<Real> factor;      ///< [rows][n * n]  X[n][q] in its first n q entries
  Rows<Real> delta;       ///< [B][n]  mean, in the first q entries
  Rows<Real> spread;      ///< [B][n * n]  G[q][q] in the first q^2: Cov(delta) = G G^T
};

/// Filtered moments, given y_0 .. y_t. Padding rows are written as zeros; the rows of a sequence
/// from its first bad step on as NaN; so are the moments of components that are still diffuse.
template <class Real>
struct KalmanFilterArgs {
  KalmanModel<Real> model;
  KalmanData<Real> data;
  KalmanForm form = kDefaultKalmanForm<Real>;
  /// Steps of a chunk: chunks of a sequence are filtered at once, after a pass that summarises each
  /// (docs/kernels/kalman.md). 0: kalman_chunk chooses; layout.T or more: one step after the other.
  std::int64_t chunk = 0;
  /// Covariances, the same for all sequences, are written once: row t of [T] for each of them, zero
  /// past the longest. A, Q, C, R and P0 must be shared by the sequences, and nothing missing or
  /// diffuse; steps are taken one after the other.
  bool shared_covariance = false;
  ThreadPool* pool = nullptr;       ///< CPU: deals sequences and chunks to threads; null: this one
  Rows<Real> mean;                  ///< out [rows][n]  optional
  Rows<Real> covariance;            ///< out [rows][n * n]  optional
  Rows<Real> predicted_mean;        ///< out [rows][n]  given y_0 .. y_{t-1}; optional
  Rows<Real> predicted_covariance;  ///< out [rows][n * n]  optional
  Rows<Real> log_likelihood;        ///< out [rows][1]  nats: log p(y_t | y_0 .. y_{t-1}); optional
  /// out [rows][m]  innovations v / sqrt(f) of the components in turn, independent and N(0, 1)
  /// where the model holds; NaN where missing, and where diffuse states leave it without a law;
  /// optional
  Rows<Real> innovation;
  std::int32_t* status = nullptr;         ///< out [B]  0, or 1 + first step whose covariance is not
                                          ///<   positive definite
  KalmanDiffuse<Real> diffuse;            ///< out, each optional; for the reverse passes
  std::int32_t* merge_step = nullptr;     ///< out [B]  required with diffuse
  std::int32_t* diffuse_steps = nullptr;  ///< out [B]  steps after which delta is not determined;
                                          ///<   the length: never. Required with diffuse
  void* workspace = nullptr;              ///< 16-byte aligned; contents undefined afterwards
  std::size_t workspace_bytes = 0;        ///< >= kalman_workspace_bytes(*this)
};

/// What the reverse passes read of the filter: its outputs on the same model and data. Sequences
/// with a bad status, or whose delta is never determined, must not be passed.
template <class Real>
struct KalmanFiltered {
  Rows<const Real> mean, covariance;         ///< [rows][n], [rows][n * n]
  KalmanDiffuse<const Real> diffuse;         ///< with diffuse
  const std::int32_t* merge_step = nullptr;  ///< [B]  with diffuse
  bool shared_covariance = false;            ///< covariance is [T][n * n], of all sequences
};

/// Moments given all y of the sequence. Padding rows are written as zeros.
template <class Real>
struct KalmanSmootherArgs {
  KalmanModel<Real> model;
  KalmanData<Real> data;
  KalmanFiltered<Real> filtered;
  /// Steps of a chunk, as in KalmanFilterArgs; the CPU takes one step after the other.
  std::int64_t chunk = 0;
  /// Covariances, the same for all sequences, are written once: row t of [T]. A, Q, C, R and P0
  /// must be shared by the sequences, which must be of one length (lengths and offsets null), and
  /// nothing missing or diffuse.
  bool shared_covariance = false;
  ThreadPool* pool = nullptr;  ///< CPU: deals sequences and chunks to threads; null: this one
  Rows<Real> mean;             ///< out [rows][n]  optional
  Rows<Real> covariance;       ///< out [rows][n * n]  optional
  Rows<Real> lag_one;          ///< out [rows][n * n]  Cov(z_t, z_{t-1} | y), 0 at t = 0; optional
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// Where gradients go, shaped and shared as the model's arrays: what is shared is summed, over
/// steps in reverse, then sequences, in an order that hangs on B alone. Each is optional. Those of
/// Q, R and P0 are the unconstrained symmetric ones: df = sum_ij grad_ij dQ_ij over symmetric dQ.
template <class Real>
struct KalmanGradient {
  StepArray<Real> A, B, state_offset, Q, C, D, observation_offset;
  StepArray<Real> R;       ///< [m][m], or [m] with diagonal_R
  StepArray<Real> m0, P0;  ///< 0 in diffuse components
  Rows<Real> y;            ///< [rows][m]  0 where missing and in padding
};

/// Reverse mode of kalman_filter: the gradient of
///
///     sum over rows of grad_log_likelihood * log_likelihood + <grad_mean, mean>
///                                           + <grad_covariance, covariance>
///         + <grad_smoothed_mean, E[z | y]> + <grad_smoothed_covariance, Cov[z | y]>
///
/// with mean and covariance the filtered ones. One pass, backward in time; of smoothed moments two
/// more before it, backward and forward, with as many numbers kept of each step. With diffuse
/// components grad_log_likelihood must have one value in all rows of a sequence (that of its first
/// row is taken), and there is no gradient of moments.
template <class Real>
struct KalmanBackwardArgs {
  KalmanModel<Real> model;
  KalmanData<Real> data;
  KalmanFiltered<Real> filtered;
  Rows<const Real> grad_log_likelihood;       ///< [rows][1]  not given: ones
  Rows<const Real> grad_mean;                 ///< [rows][n]  optional
  Rows<const Real> grad_covariance;           ///< [rows][n * n]  symmetric; optional
  Rows<const Real> grad_smoothed_mean;        ///< [rows][n]  optional
  Rows<const Real> grad_smoothed_covariance;  ///< [rows][n * n]  symmetric; optional
  /// As in KalmanSmootherArgs; one step after the other, too, for gradients of smoothed moments,
  /// and where gradients are shared by the sequences but not by the steps.
  std::int64_t chunk = 0;
  /// CPU: deals sequences and chunks to threads; null: this one. Gradients that are shared by the
  /// sequences but not by the steps are summed on one thread.
  ThreadPool* pool = nullptr;
  KalmanGradient<Real> grad;
  bool accumulate = false;  ///< add to what stands in grad; else overwrite
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// H steps beyond the last observation: layout.T = H, and A_t .. of step t lead to the t-th
/// forecast step, so that those of t = 0 are read.
template <class Real>
struct KalmanForecastArgs {
  KalmanModel<Real> model;            ///< m0, P0 and diffuse are not read
  RowLayout layout;                   ///< K must be 1
  Rows<const Real> u;                 ///< [rows][U]
  Rows<const Real> mean;              ///< [B][n]  filtered at the last observation
  Rows<const Real> covariance;        ///< [B][n * n]
  Rows<Real> state_mean;              ///< out [rows][n]  optional
  Rows<Real> state_covariance;        ///< out [rows][n * n]  optional
  Rows<Real> observation_mean;        ///< out [rows][m]  optional
  Rows<Real> observation_covariance;  ///< out [rows][m * m]  C P C^T + R; optional
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// Noise of the draws: component i < n of row (t, b) moves the state, component n + j the j-th
/// observation, of a row of width n + m (core/random.hpp); the particle is the draw's number.
struct KalmanNoise {
  NoiseKey key;
  const std::uint64_t* step = nullptr;         ///< [1]  null: 0
  const std::uint32_t* sequence_id = nullptr;  ///< [B]
  const std::uint32_t* first_draw = nullptr;   ///< [B]  number of a sequence's first; null: zeros
};

/// S draws from the model itself: what it generates. Diffuse components start at 0. Or of the
/// observations alone, the states given.
template <class Real>
struct KalmanSimulateArgs {
  KalmanModel<Real> model;
  RowLayout layout;    ///< K must be 1; t0 and origins shift the time that the noise follows
  Rows<const Real> u;  ///< [rows][U]
  KalmanNoise noise;
  std::int64_t S = 0;        ///< draws; >= 0
  Rows<const Real> given_z;  ///< [S][rows][n]  states; A, B, b, Q, m0 and P0 are then not read, and
                             ///<   z is not drawn; optional
  Rows<Real> z;              ///< out [S][rows][n] as rows s * rows + r; 0 in padding; optional
  Rows<Real> y;              ///< out [S][rows][m]  likewise
  Rows<Real> y_mean;         ///< out [S][rows][m]  likewise: E[y | z] = C z + D u + d
  Rows<Real> y_logvar;       ///< out [S][rows][m]  likewise: log Var[y | z], of R's diagonal
  std::int32_t* status = nullptr;  ///< out [B]  0, or 1 + first step where Q, R or P0 is not
                                   ///<   positive semidefinite
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// S joint draws of the states given all y, by the simulation smoother (Durbin and Koopman,
/// Biometrika 89, 2002): z = z+ + E[z - z+ | y - y+] with (z+, y+) a draw from the model.
template <class Real>
struct KalmanSampleArgs {
  KalmanModel<Real> model;
  KalmanData<Real> data;
  KalmanFiltered<Real> filtered;
  KalmanNoise noise;
  std::int64_t S = 0;
  Rows<Real> z;                    ///< out [S][rows][n] as rows s * rows + r; 0 in padding
  std::int32_t* status = nullptr;  ///< out [B]  as in KalmanSimulateArgs
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// Reverse mode of kalman_sample, the noise held: the gradient of <grad_z, z>, summed over draws.
/// By Q, R and P0 it goes through their roots: what has no noise is taken to stay without. Not with
/// diffuse states. Sequences with a bad status must not be passed.
template <class Real>
struct KalmanSampleBackwardArgs {
  KalmanModel<Real> model;
  KalmanData<Real> data;
  KalmanNoise noise;        ///< that of the draws
  std::int64_t S = 0;       ///< draws; >= 0
  Rows<const Real> grad_z;  ///< [S][rows][n] as rows s * rows + r; padding is not read
  KalmanGradient<Real> grad;
  bool accumulate = false;  ///< add to what stands in grad; else overwrite
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

/// The chunk that is fastest for T steps of B sequences on so many threads; T where that is one
/// step after the other. Chunks cost up to three times the work: they pay where threads would have
/// nothing to do. `constant`: A, Q, C and R are those of all steps and nothing is missing, so that
/// covariances settle; then chunks cost twice the work, and the first of them goes alone.
std::int64_t kalman_chunk(std::int64_t T, std::int64_t B, int threads, bool constant);

/// Pure: reads sizes and which pointers are null. \throws InvalidArgument on a bad size.
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanForecastArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<Real>& args);

/// \throws InvalidArgument naming argument, value and rule. The twins call it first.
template <class Real>
void check(const KalmanFilterArgs<Real>& args);
template <class Real>
void check(const KalmanSmootherArgs<Real>& args);
template <class Real>
void check(const KalmanBackwardArgs<Real>& args);
template <class Real>
void check(const KalmanForecastArgs<Real>& args);
template <class Real>
void check(const KalmanSimulateArgs<Real>& args);
template <class Real>
void check(const KalmanSampleArgs<Real>& args);
template <class Real>
void check(const KalmanSampleBackwardArgs<Real>& args);

/// n and m up to 64; no diffuse states, no pool; lengths, offsets and all arrays on the device.
/// With chunk 0 the length of a chunk hangs on n, T and B. A workspace of its own size.
namespace cuda {
/// Pure, as above. \throws InvalidArgument on a bad size.
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanForecastArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleArgs<Real>& args);
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<Real>& args);
/// \throws InvalidArgument naming argument, value and rule. The kernels call it first.
template <class Real>
void check(const KalmanFilterArgs<Real>& args);
template <class Real>
void check(const KalmanSmootherArgs<Real>& args);
template <class Real>
void check(const KalmanBackwardArgs<Real>& args);
template <class Real>
void check(const KalmanForecastArgs<Real>& args);
template <class Real>
void check(const KalmanSimulateArgs<Real>& args);
template <class Real>
void check(const KalmanSampleArgs<Real>& args);
template <class Real>
void check(const KalmanSampleBackwardArgs<Real>& args);
/// Enqueues on the stream; capturable; the same bits in every run. \throws InvalidArgument also
/// where a sequence's matrices are more than a block's shared memory holds.
template <class Real>
void kalman_filter(const KalmanFilterArgs<Real>& args, Stream stream);
template <class Real>
void kalman_smoother(const KalmanSmootherArgs<Real>& args, Stream stream);
template <class Real>
void kalman_backward(const KalmanBackwardArgs<Real>& args, Stream stream);
template <class Real>
void kalman_forecast(const KalmanForecastArgs<Real>& args, Stream stream);
template <class Real>
void kalman_simulate(const KalmanSimulateArgs<Real>& args, Stream stream);
template <class Real>
void kalman_sample(const KalmanSampleArgs<Real>& args, Stream stream);
template <class Real>
void kalman_sample_backward(const KalmanSampleBackwardArgs<Real>& args, Stream stream);
}  // namespace cuda

namespace cpu {
template <class Real>
void kalman_filter(const KalmanFilterArgs<Real>& args);
template <class Real>
void kalman_smoother(const KalmanSmootherArgs<Real>& args);
template <class Real>
void kalman_backward(const KalmanBackwardArgs<Real>& args);
template <class Real>
void kalman_forecast(const KalmanForecastArgs<Real>& args);
template <class Real>
void kalman_simulate(const KalmanSimulateArgs<Real>& args);
template <class Real>
void kalman_sample(const KalmanSampleArgs<Real>& args);
template <class Real>
void kalman_sample_backward(const KalmanSampleBackwardArgs<Real>& args);
}  // namespace cpu

}  // namespace seqvae
