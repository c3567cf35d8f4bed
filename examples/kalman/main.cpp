// The Kalman contracts on an application's own arrays: a level that walks, seen with noise, in the
// annual flow of the Nile at Aswan (1871 to 1970, 10^8 m^3), of which forty years are held missing.
//
//     mu_t = mu_{t-1} + eta_t,  eta_t ~ N(0, Q);   y_t = mu_t + eps_t,  eps_t ~ N(0, R)
//
// Nothing is known of the level before the first year: it is diffuse. Durbin and Koopman, Time
// Series Analysis by State Space Methods, 2nd ed., 2012, section 2.7.
//
// Build it against an installed seqvae with cmake (CMakeLists.txt beside it), or without:
//     g++ -std=c++20 -O2 main.cpp $(pkg-config --cflags --libs seqvae) -o kalman
#include <seqvae/kernels/kalman.hpp>

#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

using namespace seqvae;

constexpr int kYears = 100;
const std::array<double, kYears> kNile = {
    1120, 1160, 963, 1210, 1160, 1160, 813,  1230, 1370, 1140, 995,  935,  1110, 994,  1020,
    960,  1180, 799, 958,  1140, 1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774,  840,
    874,  694,  940, 833,  701,  916,  692,  1020, 1050, 969,  831,  726,  456,  824,  702,
    1120, 1100, 832, 764,  821,  768,  845,  864,  862,  698,  845,  744,  796,  1040, 759,
    781,  865,  845, 944,  984,  897,  822,  1010, 771,  676,  649,  846,  812,  742,  801,
    1040, 860,  874, 848,  890,  744,  749,  838,  1050, 918,  986,  797,  923,  975,  815,
    1020, 906,  901, 1170, 912,  746,  919,  718,  714,  740};

/// The contract's scratch is the caller's too: `call` with as much as it asks for.
template <class Args>
void run(void (*call)(const Args&), Args args) {
  std::vector<double> workspace(kalman_workspace_bytes(args) / sizeof(double) + 1);
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.size() * sizeof(double);
  call(args);
}

/// The model and its data, one sequence: every matrix is 1 x 1, and shared by all steps.
struct LocalLevel {
  double R, Q;
  const double one = 1, zero = 0;
  const std::uint8_t diffuse = 1;
  std::array<double, kYears> mask;

  LocalLevel(double R_, double Q_) : R(R_), Q(Q_) {
    for (int t = 0; t < kYears; ++t) mask[t] = (t / 20) % 2 == 0;  // 1891-1910, 1931-1950 missing
  }
  KalmanModel<double> model() const {
    KalmanModel<double> model;
    model.n = 1, model.m = 1;
    model.A = {&one}, model.Q = {&Q}, model.C = {&one}, model.R = {&R};
    model.P0 = {&zero}, model.diffuse = &diffuse;
    return model;
  }
  KalmanData<double> data() const {
    KalmanData<double> data;
    data.layout = {kYears, 1};  // T, B
    data.y = {kNile.data(), 1}, data.mask = {mask.data(), 1};
    return data;
  }
};

/// Filtered moments and, as the contract keeps them for its reverse passes, those given the start.
struct Filtered {
  std::array<double, kYears> mean, covariance, log_likelihood;
  std::array<double, kYears> given_mean, given_covariance, given_factor;
  double delta, spread;
  std::int32_t status, merge_step, diffuse_steps;

  explicit Filtered(const LocalLevel& level) {
    KalmanFilterArgs<double> args;
    args.model = level.model(), args.data = level.data();
    args.mean = {mean.data(), 1}, args.covariance = {covariance.data(), 1};
    args.log_likelihood = {log_likelihood.data(), 1};
    args.diffuse = {{given_mean.data(), 1},
                    {given_covariance.data(), 1},
                    {given_factor.data(), 1},
                    {&delta, 1},
                    {&spread, 1}};
    args.status = &status, args.merge_step = &merge_step, args.diffuse_steps = &diffuse_steps;
    run(cpu::kalman_filter<double>, args);
  }
  double total() const {
    return std::accumulate(log_likelihood.begin(), log_likelihood.end(), 0.0);
  }
  KalmanFiltered<double> moments() const {
    KalmanFiltered<double> moments;
    moments.mean = {mean.data(), 1}, moments.covariance = {covariance.data(), 1};
    moments.diffuse = {{given_mean.data(), 1},
                       {given_covariance.data(), 1},
                       {given_factor.data(), 1},
                       {&delta, 1},
                       {&spread, 1}};
    moments.merge_step = &merge_step;
    return moments;
  }
};

bool near(const char* what, double value, double expected, double relative) {
  const bool right = std::abs(value - expected) <= relative * std::abs(expected);
  std::printf("%-34s %20.12f  expected %20.12f%s\n", what, value, expected, right ? "" : "  WRONG");
  return right;
}

int main() {
  const LocalLevel level(15099, 1469.1);
  const Filtered filtered(level);

  std::array<double, kYears> mean, covariance;
  KalmanSmootherArgs<double> smoother;
  smoother.model = level.model(), smoother.data = level.data();
  smoother.filtered = filtered.moments();
  smoother.mean = {mean.data(), 1}, smoother.covariance = {covariance.data(), 1};
  run(cpu::kalman_smoother<double>, smoother);

  double by_R = 0, by_Q = 0;
  KalmanBackwardArgs<double> backward;
  backward.model = level.model(), backward.data = level.data();
  backward.filtered = filtered.moments();
  backward.grad.R = {&by_R}, backward.grad.Q = {&by_Q};
  run(cpu::kalman_backward<double>, backward);

  for (int t = 15; t < 45; t += 5) {
    std::printf("%d  %6.0f %s  level %7.1f +- %.1f\n", 1871 + t, kNile[t],
                level.mask[t] != 0 ? "seen   " : "missing", mean[t], std::sqrt(covariance[t]));
  }
  // By statsmodels, and by differences.
  const auto slope = [](double R, double Q, double dR, double dQ) {
    return (Filtered({R + dR, Q + dQ}).total() - Filtered({R - dR, Q - dQ}).total()) /
           (2 * (dR + dQ));
  };
  bool right = filtered.status == 0 && filtered.diffuse_steps < kYears;  // the start was found
  right &= near("log p(y)", filtered.total(), -381.5060013085083, 1e-10);
  right &= near("level of 1871", mean[0], 1111.3209465735854, 1e-9);
  right &= near("its variance", covariance[0], 4032.186797448254, 1e-9);
  right &= near("d log p / dR", by_R, slope(15099, 1469.1, 1, 0), 1e-5);
  right &= near("d log p / dQ", by_Q, slope(15099, 1469.1, 0, 1), 1e-5);
  return right ? 0 : 1;
}
