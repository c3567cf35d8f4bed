// Covariances and gains, which hang on no observation's value, step after step; and when they are
// kept. In a model that does not change P_t tends to a limit, and near it
//
//     P_{t+1} - P = Phi (P_t - P) Phi^T,   Phi = prod_i (I - k_i c_i^T) A,
//
// so that P_t - P = sum_j Phi^j (P_t - P_{t+1}) Phi^jT. Where |P_{t+1} - P_t|_ij <= d s_i s_j with
// s_i = sqrt(P_ii), P_t is within d n g of the limit in this measure, g = max_i G_ii / P_ii with
// G = sum_j Phi^j diag(P) Phi^jT. Once d is rounding alone (8 units, of the variances f too) and
// g <= 64, what is still to go, 8 g units, shrinks by 1 - 1/g a step: after g log(16 g) steps more
// it is half a unit, and P and the gains are kept until the model or what is observed changes.
#pragma once
#include "host/cpu/kalman_columns.hpp"
#include "host/cpu/kalman_form.hpp"

namespace seqvae::cpu::kalman {

/// |x - y|_ij <= 8 units of sqrt(x_ii x_jj) over n x n: what rounding leaves.
template <class Real>
bool settled_to_rounding(std::int64_t n, const Real* x, const Real* y, Real* root) {
  constexpr Real units = 8 * std::numeric_limits<Real>::epsilon();
  for (std::int64_t i = 0; i < n; ++i) {
    const Real at = x[i * (n + 1)];
    if (!(std::abs(at - y[i * (n + 1)]) <= units * at)) return false;
    root[i] = std::sqrt(at);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    Real most = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      most = std::max(most, std::abs(x[i * n + j] - y[i * n + j]) - units * root[i] * root[j]);
    }
    if (!(most <= 0)) return false;
  }
  return true;
}

/// g = max_i G_ii / D_ii with G = sum_j Phi^j diag(D) Phi^jT; infinite above 64. Phi[n][n] is lost;
/// scratch 4 n^2.
template <class Real>
Real contraction(std::int64_t n, Real* Phi, const Real* D, Real* scratch) {
  Real *G = scratch, *added = G + n * n, *work = added + n * n;
  std::fill_n(G, n * n, Real(0));
  for (std::int64_t i = 0; i < n; ++i) G[i * (n + 1)] = D[i * (n + 1)];
  // G over 2^p terms from that over 2^(p-1), Phi by squaring; 2^12 terms are enough for g = 64.
  for (int doubling = 0; doubling < 12; ++doubling) {
    congruence(n, n, Phi, G, added, work);
    Real g = 1, growth = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t ii = i * (n + 1);
      growth = std::max(growth, added[ii] / G[ii]);
      g = std::max(g, (G[ii] + added[ii]) / D[ii]);
    }
    if (!(g <= 64)) break;
    if (growth <= Real(1e-3)) return g;
    for (std::int64_t i = 0; i < n * n; ++i) G[i] += added[i];
    multiply(n, n, n, Phi, Phi, work);
    std::copy_n(work, n * n, Phi);
  }
  return std::numeric_limits<Real>::infinity();
}

/// Whether a matrix that tends to a limit has settled.
template <class Real>
class Settling {
 public:
  Settling(std::int64_t n, Arena& arena) : n_(n) {
    Phi_ = arena.take<Real>(n * n), work_ = arena.take<Real>(4 * n * n);
    root_ = arena.take<Real>(n);
  }
  bool settled() const { return to_go_ == 0; }
  void reset() { to_go_ = kNotYet; }
  void settle() { to_go_ = 0; }  ///< it is known to have settled

  /// After a step from `last` to X that is like the one before: X - limit becomes
  /// Phi (X - limit) Phi^T, with the Phi that write_Phi writes. `others_have`: what else there is
  /// has settled to rounding. After any other step: reset.
  template <class Write>
  void step(const Real* X, const Real* last, bool others_have, Write&& write_Phi) {
    if (to_go_ > 0) {
      --to_go_;
    } else if (to_go_ == kNotYet && others_have && settled_to_rounding(n_, X, last, root_)) {
      write_Phi(Phi_);
      const Real g = contraction(n_, Phi_, X, work_);
      to_go_ = std::isfinite(g) ? static_cast<int>(g * std::log(16 * g)) : kNever;
    }
  }

 private:
  static constexpr int kNotYet = -1, kNever = -2;
  std::int64_t n_;
  Real *Phi_, *work_, *root_;
  int to_go_ = kNotYet;  // steps until it has settled
};

/// In models that do not change the first of many chunks goes on for so long until it has settled:
/// then all others cost little.
constexpr std::int64_t kSettlesWithin = 512;

/// out = A^power, [n][n], by squaring. A is lost; scratch n^2.
template <class Real>
void raise(std::int64_t n, std::int64_t power, Real* A, Real* out, Real* scratch) {
  std::fill_n(out, n * n, Real(0));
  for (std::int64_t i = 0; i < n; ++i) out[i * (n + 1)] = 1;
  for (; power > 0; power /= 2) {
    if (power % 2 == 1) {
      multiply(n, n, n, A, out, scratch);
      std::copy_n(scratch, n * n, out);
    }
    multiply(n, n, n, A, A, scratch);
    std::copy_n(scratch, n * n, A);
  }
}

/// Phi = prod_i (I - k_i c_i^T) A with k[count][n]. Scratch: n.
template <class Real>
void write_transition(std::int64_t n, const Observation<Real>& observation, const Real* k,
                      const Real* A, Real* scratch, Real* Phi) {
  std::copy_n(A, n * n, Phi);
  for (std::int64_t i = 0; i < observation.count(); ++i) {
    transposed_multiply_vector(n, n, Phi, observation.c(i), scratch);
    for (std::int64_t j = 0; j < n; ++j) axpy(n, -k[i * n + j], scratch, Phi + j * n);
  }
}

/// The covariances of a sequence's steps, or of many sequences' that share model and gaps.
template <class Real>
class Covariances {
 public:
  /// `predictions`: predicted() is asked for at every step.
  Covariances(const KalmanModel<Real>& model, const KalmanData<Real>& data, KalmanForm form,
              bool predictions, Arena& arena)
      : model_(model),
        data_(data),
        predictions_(predictions),
        observation_(model, data, arena),
        state_(model.n, form, arena),
        settling_(model.n, arena) {
    const std::int64_t n = model.n, m = model.m;
    for (Real** p : {&last_, &predicted_}) *p = arena.take<Real>(n * n);
    for (Real** p : {&w_, &k_}) *p = arena.take<Real>(m * n);
    for (Real** p : {&f_, &last_f_, &log_f_}) *p = arena.take<Real>(m);
    vector_ = arena.take<Real>(n);
  }

  /// P0 of sequence b. False where it is not positive semidefinite (square root only).
  bool start(std::int64_t b) {
    const bool sound = start_from(at(model_.P0, data_.layout, 0, b));
    predicts_ = false;
    return sound;
  }
  /// P after a step that another made.
  bool start_from(const Real* P) {
    A_ = Q_ = nullptr;
    settling_.reset();
    predicts_ = true;
    return state_.set(P);
  }

  /// \name What has settled, for whoever goes on from there in a model that does not change.
  /// \{
  static std::int64_t settled_size(std::int64_t n, std::int64_t m) {
    return 2 * n * n + m * n + 2 * m;
  }
  void save_settled(Real* to) {
    const std::int64_t nn = model_.n * model_.n, m = model_.m;
    to = std::copy_n(state_.P(), nn, to);
    to = std::copy_n(predicted_, nn, to);
    to = std::copy_n(k_, m * model_.n, to);
    to = std::copy_n(f_, m, to);
    std::copy_n(log_f_, m, to);
  }
  /// Before step t of sequence b.
  void start_settled(std::int64_t t, std::int64_t b, const Real* from) {
    const std::int64_t nn = model_.n * model_.n, m = model_.m;
    A_ = at(model_.A, data_.layout, t, b), Q_ = at(model_.Q, data_.layout, t, b);
    observation_.read_model(t, b);
    predicts_ = true;
    settling_.settle();
    state_.keep(from);
    std::copy_n(from + nn, nn, predicted_);
    std::copy_n(from + 2 * nn, m * model_.n, k_);
    from += 2 * nn + m * model_.n;
    std::copy_n(from, m, f_);
    std::copy_n(from + m, m, log_f_);
  }
  /// \}

  /// Step t of sequence b: the prediction (but of the first step), then each observed component.
  /// False where a variance is not positive, or R (Q: square root only) not semidefinite.
  bool step(std::int64_t t, std::int64_t b) {
    const std::int64_t n = model_.n;
    const Real *A = at(model_.A, data_.layout, t, b), *Q = at(model_.Q, data_.layout, t, b);
    bool sound = observation_.read_model(t, b);
    const bool constant = predicts_ && A == A_ && Q == Q_ && observation_.same();
    if (settling_.settled() && constant) return true;
    if (constant) std::copy_n(state_.P(), n * n, last_);
    std::swap(f_, last_f_);
    if (predicts_) {
      sound = state_.predict(A, Q) && sound;
      A_ = A, Q_ = Q;
    }
    if (predictions_) std::copy_n(state_.P(), n * n, predicted_);
    predicts_ = true;
    if (!sound) return false;
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      f_[i] = state_.condition(observation_.c(i), observation_.h(i), w_ + i * n, k_ + i * n);
      if (!(f_[i] > 0) || !std::isfinite(f_[i])) return false;
      log_f_[i] = std::log(f_[i]);
    }
    if (constant) {
      settling_.step(state_.P(), last_, variances_have_settled(),
                     [&](Real* Phi) { write_transition(n, observation_, k_, A, vector_, Phi); });
    } else {
      settling_.reset();
    }
    return true;
  }

  Observation<Real>& observation() { return observation_; }
  bool settled() const { return settling_.settled(); }
  const Real* gains() const { return k_; }  ///< [count][n]
  const Real* variances() const { return f_; }
  const Real* P() { return state_.P(); }
  const Real* predicted() const { return predicted_; }
  const Real* k(std::int64_t i) const { return k_ + i * model_.n; }
  Real f(std::int64_t i) const { return f_[i]; }
  Real log_f(std::int64_t i) const { return log_f_[i]; }

 private:
  bool variances_have_settled() const {
    constexpr Real units = 8 * std::numeric_limits<Real>::epsilon();
    for (std::int64_t i = 0; i < observation_.count(); ++i) {
      if (!(std::abs(f_[i] - last_f_[i]) <= units * f_[i])) return false;
    }
    return true;
  }

  const KalmanModel<Real>& model_;
  const KalmanData<Real>& data_;
  bool predictions_;
  Observation<Real> observation_;
  StateCovariance<Real> state_;
  Settling<Real> settling_;
  Real *last_, *predicted_, *w_, *k_, *f_, *last_f_, *log_f_, *vector_;
  const Real *A_ = nullptr, *Q_ = nullptr;  // of the last prediction
  bool predicts_ = false;
};

/// What a step with settled covariances is to means: [m_{t-1} | e | B u + b] -> [m_t | v], one
/// linear map, with e = y - d - D u before L^-1 and v the innovations of the components. Not where
/// precise components leave little of others' innovations: those are better taken in turn.
template <class Real>
class SettledMap {
 public:
  SettledMap(const KalmanModel<Real>& model, Arena& arena)
      : n_(model.n),
        inputs_(model.state_offset || (model.B && model.U > 0) ? model.n : 0),
        map_(model.n + model.m + inputs_, model.n + model.m, arena) {
    e_ = arena.take<Real>(model.m), vector_ = arena.take<Real>(n_);
    predicted_ = arena.take<Real>(n_ * n_), scratch_ = arena.take<Real>(2 * n_ * n_);
  }
  std::int64_t inputs() const { return inputs_; }  ///< n where B u + b comes in, or 0

  /// From the gains k[count][n] and variances f of the step that leads from P by A and Q. False
  /// where the map would lose digits.
  bool build(const Observation<Real>& observation, const Real* k, const Real* f, const Real* P,
             const Real* A, const Real* Q) {
    congruence(n_, n_, A, P, predicted_, scratch_);
    for (std::int64_t i = 0; i < n_ * n_; ++i) predicted_[i] += Q[i];
    if (!(least_ratio(observation, f) >= Real(1e-6))) return false;
    const std::int64_t count = observation.count(), terms = n_ + count + inputs_;
    map_.clear(terms);
    for (std::int64_t term = 0; term < terms; ++term) {
      Real *m = map_.image(term), *v = m + n_;
      std::fill_n(e_, count, Real(0));
      if (term < n_) {
        for (std::int64_t i = 0; i < n_; ++i) m[i] = A[i * n_ + term];
      } else if (term < n_ + count) {
        e_[term - n_] = 1;
        observation.decorrelate(1, e_);
      } else {
        m[term - n_ - count] = 1;
      }
      for (std::int64_t i = 0; i < count; ++i) {
        v[i] = e_[i] - dot(n_, observation.c(i), m);
        axpy(n_, v[i], k + i * n_, m);
      }
    }
    map_.finish();
    return true;
  }
  const LinearMap<Real>& map() const { return map_; }

 private:
  /// The least of f_i / S_ii, S_ii the variance of component i before any is observed.
  Real least_ratio(const Observation<Real>& observation, const Real* f) {
    Real least = 1;
    for (std::int64_t i = 0; i < observation.count(); ++i) {
      const Real* c = observation.c(i);
      symmetric_multiply(n_, predicted_, c, vector_);
      least = std::min(least, f[i] / (dot(n_, c, vector_) + observation.h(i)));
    }
    return least;
  }

  std::int64_t n_, inputs_;
  LinearMap<Real> map_;
  Real *e_, *vector_, *predicted_, *scratch_;
};

}  // namespace seqvae::cpu::kalman
