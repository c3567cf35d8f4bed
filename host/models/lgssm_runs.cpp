#include "host/models/lgssm_runs.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace seqvae::lgssm {

std::vector<std::vector<double>*> arrays(LgssmMatrices& x) {
  return {&x.A, &x.B, &x.b, &x.C, &x.D, &x.d, &x.Q, &x.R, &x.m0, &x.P0};
}

MatrixBlock::MatrixBlock(const Queue& queue, const LgssmMatrices& x)
    : shape_(x.view()), starts_{0}, values_(queue) {
  LgssmMatrices copy = x;
  std::vector<double> values;
  for (const std::vector<double>* array : arrays(copy)) {
    values.insert(values.end(), array->begin(), array->end());
    starts_.push_back(static_cast<std::int64_t>(values.size()));
  }
  values_.upload(values);
}

StepArray<double> MatrixBlock::array(std::size_t k) const {
  if (starts_[k] == starts_[k + 1]) return {};
  return {values_.data() + starts_[k]};
}

KalmanModel<double> MatrixBlock::model() const {
  KalmanModel<double> model = shape_;
  model.A = array(0), model.B = array(1), model.state_offset = array(2);
  model.C = array(3), model.D = array(4), model.observation_offset = array(5);
  model.Q = array(6), model.R = array(7), model.m0 = array(8), model.P0 = array(9);
  return model;
}

KalmanGradient<double> MatrixBlock::gradient() const {
  KalmanGradient<double> grad;
  grad.A = array(0), grad.B = array(1), grad.state_offset = array(2);
  grad.C = array(3), grad.D = array(4), grad.observation_offset = array(5);
  grad.Q = array(6), grad.R = array(7), grad.m0 = array(8), grad.P0 = array(9);
  return grad;
}

void MatrixBlock::add_to(LgssmMatrices& sums) const {
  std::vector<double> values;
  values_.download(values);
  auto from = values.begin();
  for (std::vector<double>* array : arrays(sums)) {
    for (double& sum : *array) sum += *from++;
  }
}

FilterRun::FilterRun(const Queue& queue, const LgssmMatrices& matrices,
                     const Observations& observations)
    : ContractRun(queue),
      packing(queue),
      log_likelihood(queue),
      innovation(queue),
      mean(queue),
      covariance(queue),
      smoothed_mean(queue),
      smoothed_covariance(queue),
      lag_one(queue),
      matrices_(matrices),
      observations_(observations),
      block_(queue, matrices),
      y_(queue),
      mask_(queue),
      u_(queue),
      given_mean_(queue),
      given_covariance_(queue),
      factor_(queue),
      delta_(queue),
      spread_(queue),
      status_(queue),
      merge_step_(queue),
      diffuse_steps_(queue) {}

KalmanData<double> FilterRun::data() const {
  const std::int64_t m = matrices_.m, U = matrices_.U;
  Rows<const double> mask;
  if (!observations_.complete()) mask = {mask_.data(), m};
  return {packing.layout(), {y_.data(), m}, mask, {u_.data(), U}};
}

void FilterRun::filter(std::vector<Member> members, bool innovations) {
  const std::int64_t n = matrices_.n, nn = n * n, m = matrices_.m, U = matrices_.U;
  const data::SequenceSet& set = observations_.set();
  packing.take(std::move(members));
  const std::int64_t rows = packing.rows(), B = packing.count();
  packing.bring(set.values.data(), m, room(y_, rows * m));
  if (!observations_.complete()) {
    packing.bring(observations_.mask().data(), m, room(mask_, rows * m));
  }
  if (U > 0) packing.bring(set.controls.data(), U, room(u_, rows * U));
  KalmanFilterArgs<double> args;
  args.model = model();
  args.data = data();
  args.mean = {room(mean, rows * n), n};
  args.covariance = {room(covariance, rows * nn), nn};
  args.log_likelihood = {room(log_likelihood, rows), 1};
  if (innovations) args.innovation = {room(innovation, rows * m), m};
  args.status = room(status_, B);
  if (diffuse()) {
    args.diffuse = {{room(given_mean_, rows * n), n},
                    {room(given_covariance_, rows * nn), nn},
                    {room(factor_, rows * nn), nn},
                    {room(delta_, B * n), n},
                    {room(spread_, B * nn), nn}};
    args.merge_step = room(merge_step_, B);
    args.diffuse_steps = room(diffuse_steps_, B);
  }
  run(args);
}

bool FilterRun::is_sound() const {
  const std::vector<std::int32_t> status = values(status_, packing.count());
  return std::all_of(status.begin(), status.end(), [](std::int32_t s) { return s == 0; });
}

void FilterRun::require_sound() const {
  const std::vector<std::int32_t> status = values(status_, packing.count());
  std::vector<std::int32_t> diffuse_steps(status.size());
  if (diffuse()) diffuse_steps = values(diffuse_steps_, packing.count());
  for (std::size_t b = 0; b < status.size(); ++b) {
    const Member& member = packing.members()[b];
    if (status[b] != 0) {
      throw Error(fmt::format("sequence {}: step {}: the covariance is not positive definite",
                              member.sequence, status[b] - 1));
    }
    if (diffuse() && diffuse_steps[b] == member.length) {
      throw InvalidArgument(
          fmt::format("sequence {}: its {} steps do not determine the model's diffuse states",
                      member.sequence, member.length));
    }
  }
}

KalmanFiltered<double> FilterRun::filtered() const {
  const std::int64_t n = matrices_.n, nn = n * n;
  KalmanFiltered<double> filtered;
  filtered.mean = {mean.data(), n};
  filtered.covariance = {covariance.data(), nn};
  if (!diffuse()) return filtered;
  filtered.diffuse = {{given_mean_.data(), n},
                      {given_covariance_.data(), nn},
                      {factor_.data(), nn},
                      {delta_.data(), n},
                      {spread_.data(), nn}};
  filtered.merge_step = merge_step_.data();
  return filtered;
}

void FilterRun::smooth(bool with_lag_one) {
  const std::int64_t rows = packing.rows(), n = matrices_.n, nn = n * n;
  KalmanSmootherArgs<double> args;
  args.model = model(), args.data = data(), args.filtered = filtered();
  args.mean = {room(smoothed_mean, rows * n), n};
  args.covariance = {room(smoothed_covariance, rows * nn), nn};
  if (with_lag_one) args.lag_one = {room(lag_one, rows * nn), nn};
  run(args);
}

const Queue& queue_of(const Machine* machine) {
  static const Queue cpu(Device::cpu());
  return machine != nullptr ? machine->queue : cpu;
}

}  // namespace seqvae::lgssm
