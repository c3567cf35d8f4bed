#include "host/train/train_step.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include "host/train/schedule.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/run.hpp"

namespace seqvae {
namespace {

ScanOptions with_objective(const TrainConfig& config, ScanOptions options, const Queue& queue) {
  options.bound = config.bound == "iwae" ? Bound::iwae : Bound::elbo;
  options.trace.particles = config.samples > 1;
  options.trace.sampled_kl = options.bound == Bound::iwae;
  options.gradient = true;
  options.trace.dropout = true;
  options.free_nats = config.free_nats;
  options.weighted |= !queue.device().is_cpu();  // rows of a capacity: graph/executor.hpp
  return options;
}

template <class Real>
void bind(ScanBatch<Real>& batch, const char* name, const Real& value) {
  for (Binding<Real>& binding : batch.bindings) {
    if (binding.name != name) continue;
    binding.data = &value;
    return;
  }
  batch.bindings.push_back({name, &value});
}

}  // namespace

template <class Real>
void Totals::add(const Executor<Real>& executor, std::int64_t sequences) {
  const auto total = [&](const char* name) {
    const std::vector<Real> values = executor.output(name);
    return std::accumulate(values.begin(), values.end(), 0.0) * static_cast<double>(sequences) /
           static_cast<double>(values.size());
  };
  objective += total("objective"), bound += total("bound");
  reconstruction += total("log_likelihood"), kl += total("kl");
}

Totals& Totals::operator+=(const Totals& other) {
  objective += other.objective, bound += other.bound;
  reconstruction += other.reconstruction, kl += other.kl;
  rows += other.rows;
  return *this;
}

io::Json Totals::to_json() const { return {objective, bound, reconstruction, kl, rows}; }

Totals Totals::from_json(const io::JsonView& json) {
  const std::vector<double> n = json.numbers();
  if (n.size() != 5) json.fail(fmt::format("has {} numbers, must have 5", n.size()));
  return {n[0], n[1], n[2], n[3], json.elements()[4].integer(0)};
}

template <class Real>
TrainStep<Real>::TrainStep(const Model& model, const TrainConfig& config, const ScanOptions& data,
                           Machine& machine)
    : config_(config),
      queue_(machine.queue),
      executor_(make_executor<Real>(model.scan(with_objective(config, data, machine.queue)),
                                    model.parameters(), machine, config.samples)),
      one_over_particles_(static_cast<Real>(1.0 / static_cast<double>(config.samples))),
      parameters_(queue_),
      m_(queue_),
      v_(queue_),
      gradients_(queue_, static_cast<std::size_t>(model.parameters().size())),
      more_gradients_(queue_, config.accumulate > 1 ? gradients_.count() : 0),
      step_words_(queue_, 1),
      norm_(queue_, 1),
      workspace_(queue_, cuda::adamw_workspace_bytes()) {}

template <class Real>
void TrainStep<Real>::load(const Checkpoint<Real>& state) {
  parameters_.upload(state.parameters);
  m_.upload(state.m), v_.upload(state.v);
}

template <class Real>
void TrainStep<Real>::store(Checkpoint<Real>& state) const {
  parameters_.download(state.parameters);
  m_.download(state.m), v_.download(state.v);
}

template <class Real>
void TrainStep<Real>::begin(std::int64_t step, std::int64_t rows) {
  step_ = step, batches_ = 0;
  beta_ = static_cast<Real>(beta_at(config_, step));
  seed_ = static_cast<Real>(-1.0 / static_cast<double>(rows));
  totals_ = Totals();
  totals_.rows = rows;
  executor_.set_parameters(parameters_.data());
}

template <class Real>
void TrainStep<Real>::add(ScanBatch<Real>& batch) {
  bind(batch, "beta", beta_), bind(batch, "seed", seed_);
  bind(batch, "one_over_particles", one_over_particles_);
  batch.seed = config_.seed, batch.step = static_cast<std::uint64_t>(step_);
  executor_.run(batch, batches_ == 0 ? gradients_.data() : more_gradients_.data());
  totals_.add(executor_, static_cast<std::int64_t>(batch.lengths.size()));
  if (batches_ > 0) {  // gradients_ += more_gradients_; the table's buffer is whole rows of 16
    constexpr std::int64_t D = 16;
    const Rows<Real> sum(gradients_.data(), D), more(more_gradients_.data(), D);
    const auto rows = static_cast<std::int64_t>(gradients_.count()) / D;
    run(MultiplyAddArgs<Real>{.rows = rows, .D = D, .a = sum, .c = more, .y = sum}, queue_);
  }
  ++batches_;
}

template <class Real>
double TrainStep<Real>::update(double learning_rate, std::int64_t number) {
  double norm = std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(totals_.objective)) return norm;
  const AdamWStep words{number, learning_rate};
  check(words);
  queue_.copy(step_words_.data(), &words, sizeof words);
  AdamWArgs<Real> args;
  args.count = static_cast<std::int64_t>(gradients_.count());
  args.parameters = parameters_.data(), args.gradients = gradients_.data();
  args.m = m_.data(), args.v = v_.data();
  args.step = step_words_.data();
  args.beta1 = config_.beta1, args.beta2 = config_.beta2, args.epsilon = config_.epsilon;
  args.weight_decay = config_.weight_decay, args.l2 = config_.l2;
  args.clip_norm = config_.clip_norm, args.clip_value = config_.clip_value;
  args.norm = norm_.data();
  args.workspace = workspace_.data(), args.workspace_bytes = workspace_.count();
  run(args, queue_);
  queue_.copy(&norm, norm_.data(), sizeof norm);
  queue_.synchronize();
  return norm;
}

template void Totals::add(const Executor<float>&, std::int64_t);
template void Totals::add(const Executor<double>&, std::int64_t);
template class TrainStep<float>;
template class TrainStep<double>;

}  // namespace seqvae
