#include "seqvae/inference/deep_predictor.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "host/inference/weights.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"
#include "seqvae/models/scan_data.hpp"

namespace seqvae {
namespace {

constexpr std::int64_t kRowsAtOnce = 32768;  // rows times particles of one run
constexpr std::int64_t kParticlesAtOnce = 64;
constexpr std::uint32_t kResamplingSite = 253;  // no model draws there

/// Sequences longest first, cut so that a run's rows stay within bounds.
std::vector<std::vector<std::int32_t>> batches_of(const data::SequenceSet& set,
                                                  std::int64_t particles) {
  std::vector<std::int32_t> order(set.lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return set.lengths[index(a)] > set.lengths[index(b)];
  });
  std::vector<std::vector<std::int32_t>> batches;
  std::int64_t rows = 0;
  for (std::int32_t i : order) {
    const std::int64_t more = set.lengths[index(i)] * particles;
    if (batches.empty() || rows + more > kRowsAtOnce) batches.emplace_back(), rows = 0;
    batches.back().push_back(i);
    rows += more;
  }
  return batches;
}

template <class Real>
class DeepPredictor : public Predictor {
 public:
  DeepPredictor(std::unique_ptr<Model> model, const std::vector<Real>& values, Machine& machine)
      : model_(std::move(model)), machine_(machine), values_(machine.queue) {
    require(static_cast<std::int64_t>(values.size()) == model_->parameters().size(), "predictor",
            "parameters", values.size(),
            fmt::format("the model's {}", model_->parameters().size()));
    values_.upload(values);
  }

  std::vector<std::string> bounds() const override { return {"elbo", "iwae"}; }
  std::string posterior() const override { return to_string(model_->posterior()); }

  Evaluation evaluate(const data::SequenceSet& set, const std::string& bound, std::int64_t samples,
                      std::uint64_t seed, const Progress& progress) override {
    require(bound == "elbo" || bound == "iwae", "evaluate", "bound", bound,
            "elbo or iwae for this model");
    require(samples >= 1, "evaluate", "samples", samples, ">= 1");
    ScanData<Real> data(set, model_->shape());
    ScanOptions options = data.scan_options();
    options.trace.sampled_kl = bound == "iwae";
    // Of each sequence: its samples' log-likelihoods and KL terms.
    std::vector<std::vector<double>> likelihood(index(set.count())), kl(index(set.count()));
    run_rounds(
        set, data, options, samples, seed, progress,
        [&](const Executor<Real>& executor, std::span<const std::int32_t> members, std::int64_t K) {
          const std::vector<Real> l = executor.output("log_likelihood"), d = executor.output("kl");
          for (std::size_t b = 0; b < members.size(); ++b) {
            for (std::size_t k = 0; k < index(K); ++k) {
              likelihood[index(members[b])].push_back(l[b * index(K) + k]);
              kl[index(members[b])].push_back(d[b * index(K) + k]);
            }
          }
        });
    return summarise(set, bound, samples, likelihood, kl);
  }

  States infer(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
               const Progress& progress) override {
    require(samples >= 1, "infer", "samples", samples, ">= 1");
    ScanData<Real> data(set, model_->shape());
    ScanOptions options = data.scan_options();
    options.paths = true;
    States states;
    states.S = samples;
    const std::vector<std::int64_t> starts = set.starts();
    const std::int64_t R = set.rows();
    std::int64_t done = 0;  // samples of the rounds before
    run_rounds(
        set, data, options, samples, seed, progress,
        [&](const Executor<Real>& executor, std::span<const std::int32_t> members, std::int64_t K) {
          for (const std::string& latent : latents_of(executor)) {
            const std::vector<Real> draws = executor.output(latent);
            const std::int64_t n = executor.width(latent);
            if (states.samples.empty()) states.n = n, states.samples.resize(index(samples * R * n));
            const bool global =
                executor.output_rows(latent) == static_cast<std::int64_t>(members.size()) * K &&
                is_global(executor, latent);
            std::int64_t row = 0;
            for (std::size_t b = 0; b < members.size(); ++b) {
              const std::int64_t length = set.lengths[index(members[b])];
              for (std::int64_t t = 0; t < length; ++t) {
                for (std::int64_t k = 0; k < K; ++k) {
                  const std::int64_t from =
                      global ? static_cast<std::int64_t>(b) * K + k : (row + t) * K + k;
                  const std::int64_t to = (done + k) * R + starts[index(members[b])] + t;
                  std::copy_n(draws.begin() + from * n, n, states.samples.begin() + to * n);
                }
              }
              row += length;
            }
          }
        },
        [&](std::int64_t K) { done += K; });
    return states;
  }

  Forecast forecast(const data::SequenceSet& context, std::int64_t horizon,
                    std::span<const double> controls, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    require(samples >= 1, "forecast", "samples", samples, ">= 1");
    require(horizon >= 1, "forecast", "horizon", horizon, ">= 1");
    check_controls(controls, context.count() * horizon);
    ScanData<Real> data(context, model_->shape());
    ScanOptions options = data.scan_options();
    options.states = true;
    Forecast forecast;
    forecast.N = context.count(), forecast.H = horizon, forecast.D = context.D,
    forecast.S = samples;
    const std::int64_t block = horizon * context.D;
    forecast.samples.resize(index(samples * forecast.N * block));
    std::int64_t done = 0;
    const std::vector<Real> u(controls.begin(), controls.end());
    run_rounds(
        context, data, options, samples, seed, progress,
        [&](const Executor<Real>& past, std::span<const std::int32_t> members, std::int64_t K) {
          const std::vector<Real> draws =
              continue_from(past, context, members, horizon, u, K, seed, options.trace.missing);
          for (std::size_t b = 0; b < members.size(); ++b) {
            for (std::int64_t h = 0; h < horizon; ++h) {
              for (std::int64_t k = 0; k < K; ++k) {
                const std::int64_t from =
                    ((static_cast<std::int64_t>(b) * horizon + h) * K + k) * context.D;
                const std::int64_t to =
                    ((done + k) * forecast.N + members[b]) * block + h * context.D;
                std::copy_n(draws.begin() + from, context.D, forecast.samples.begin() + to);
              }
            }
          }
        },
        [&](std::int64_t K) { done += K; });
    moments(forecast.samples, samples, forecast.mean, forecast.std);
    return forecast;
  }

  Imputation impute(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    require(samples >= 1, "impute", "samples", samples, ">= 1");
    ScanData<Real> data(set, model_->shape());
    ScanOptions options = data.scan_options();
    options.paths = true, options.trace.sampled_kl = true;
    const std::int64_t R = set.rows(), D = set.D;
    const std::vector<std::int64_t> starts = set.starts();
    std::vector<std::vector<double>> weights(index(set.count()));
    std::vector<double> draws(index(samples * R * D)), means(draws.size());
    std::vector<double> variances(draws.size());
    std::int64_t done = 0;
    run_rounds(
        set, data, options, samples, seed, progress,
        [&](const Executor<Real>& executor, std::span<const std::int32_t> members, std::int64_t K) {
          const std::vector<Real> l = executor.output("log_likelihood"), kl = executor.output("kl");
          const std::vector<Real> mean = executor.output("mean:x"),
                                  draw = executor.output("draw:x");
          const std::vector<Real> logvar =
              executor.has_output("logvar:x") ? executor.output("logvar:x") : std::vector<Real>();
          // The emission has particles, its draw too; a draw without them serves all.
          std::int64_t row = 0;
          for (std::size_t b = 0; b < members.size(); ++b) {
            for (std::size_t k = 0; k < index(K); ++k) {
              const std::size_t i = b * index(K) + k;
              weights[index(members[b])].push_back(static_cast<double>(l[i]) -
                                                   static_cast<double>(kl[i]));
            }
            const std::int64_t length = set.lengths[index(members[b])];
            for (std::int64_t t = 0; t < length; ++t) {
              for (std::int64_t k = 0; k < K; ++k) {
                for (std::int64_t d = 0; d < D; ++d) {
                  const std::size_t from = index(((row + t) * K + k) * D + d);
                  const std::size_t to =
                      index(((done + k) * R + starts[index(members[b])] + t) * D + d);
                  draws[to] = draw[from], means[to] = mean[from];
                  variances[to] = logvar.empty() ? variance_of(mean[from])
                                                 : std::exp(static_cast<double>(logvar[from]));
                }
              }
            }
            row += length;
          }
        },
        [&](std::int64_t K) { done += K; });
    return weigh(set, samples, seed, weights, draws, means, variances);
  }

  std::vector<double> generate(std::int64_t steps, std::int64_t count,
                               std::span<const double> controls, std::uint64_t seed) override {
    require(steps >= 1, "generate", "steps", steps, ">= 1");
    require(count >= 1, "generate", "count", count, ">= 1");
    check_controls(controls, count * steps);
    ScanOptions options;
    options.trace.mode = Mode::generate;
    Executor<Real>& executor = executor_for("generate", options, 1);
    const std::vector<std::int32_t> lengths(index(count), static_cast<std::int32_t>(steps));
    std::vector<std::int64_t> first_row;
    std::vector<std::uint32_t> ids;
    for (std::int64_t i = 0; i < count; ++i) {
      first_row.push_back(i * steps), ids.push_back(static_cast<std::uint32_t>(i));
    }
    const std::vector<Real> u(controls.begin(), controls.end());
    ScanBatch<Real> batch;
    batch.lengths = lengths, batch.first_row = first_row, batch.sequence_id = ids,
    batch.seed = seed;
    batch.bindings = {{"controls", u.data()}};
    executor.run(batch);
    const std::vector<Real> x = executor.output("draw:x");
    return {x.begin(), x.end()};
  }

 private:
  // --- runs -----------------------------------------------------------------------------------

  Executor<Real>& executor_for(const std::string& use, ScanOptions options, std::int64_t K) {
    options.trace.particles = K > 1;
    const std::string key =
        fmt::format("{} {} {} {} {} {} {}", use, K, options.trace.sampled_kl, options.weighted,
                    options.paths, options.states, options.trace.missing);
    auto found = executors_.find(key);
    if (found == executors_.end()) {
      Executor<Real> made =
          make_executor<Real>(model_->scan(options), model_->parameters(), machine_, K);
      found = executors_.emplace(key, std::move(made)).first;
      found->second.set_parameters(values_.data());
    }
    return found->second;
  }

  /// All sequences, `samples` particles each, in rounds of as many as memory likes.
  template <class Use>
  void run_rounds(const data::SequenceSet& set, ScanData<Real>& data, const ScanOptions& options,
                  std::int64_t samples, std::uint64_t seed, const Progress& progress, Use use,
                  const std::function<void(std::int64_t)>& round_done = {}) {
    std::int64_t left = samples, finished = 0;
    const std::int64_t rounds = (samples + kParticlesAtOnce - 1) / kParticlesAtOnce;
    for (std::uint64_t round = 0; left > 0; ++round) {
      const std::int64_t K = std::min(left, kParticlesAtOnce);
      Executor<Real>& executor = executor_for("infer", options, K);
      for (const std::vector<std::int32_t>& members : batches_of(set, K)) {
        Real one = 1, share = static_cast<Real>(1.0 / static_cast<double>(K));
        ScanBatch<Real> batch;
        batch.bindings = {{"beta", &one}, {"one_over_particles", &share}};
        data.bind(members, executor.scan().options, batch);
        batch.seed = seed, batch.step = round;
        executor.run(batch);
        step_ = round;
        use(executor, members, K);
        finished += static_cast<std::int64_t>(members.size());
        if (progress) progress(finished, rounds * set.count());
      }
      left -= K;
      if (round_done) round_done(K);
    }
  }

  /// Draws of the steps after a run with states: [B][horizon][K][D].
  std::vector<Real> continue_from(const Executor<Real>& past, const data::SequenceSet& context,
                                  std::span<const std::int32_t> members, std::int64_t horizon,
                                  const std::vector<Real>& controls, std::int64_t K,
                                  std::uint64_t seed, bool missing) {
    ScanOptions options;
    options.trace.mode = Mode::generate, options.trace.continued = true;
    options.trace.missing = missing;
    Executor<Real>& future = executor_for("forecast", options, K);
    std::vector<std::vector<Real>> starts;
    ScanBatch<Real> batch;
    for (const Output& output : past.scan().graph.outputs) {
      if (output.name.starts_with("start:")) starts.push_back(past.output(output.name));
    }
    std::size_t i = 0;
    for (const Output& output : past.scan().graph.outputs) {
      if (output.name.starts_with("start:"))
        batch.bindings.push_back({output.name, starts[i++].data()});
    }
    std::vector<std::int32_t> lengths, origin;
    std::vector<std::int64_t> first_row;
    std::vector<std::uint32_t> ids;
    for (std::int32_t m : members) {
      lengths.push_back(static_cast<std::int32_t>(horizon)),
          origin.push_back(context.lengths[index(m)]);
      first_row.push_back(m * horizon), ids.push_back(context.ids[index(m)]);
    }
    batch.bindings.push_back({"controls", controls.data()});
    batch.lengths = lengths, batch.origin = origin, batch.first_row = first_row,
    batch.sequence_id = ids;
    batch.seed = seed, batch.step = step_;
    future.run(batch);
    return future.output("draw:x");
  }

  void check_controls(std::span<const double> controls, std::int64_t rows) const {
    const std::int64_t U = model_->shape().controls_width;
    require(static_cast<std::int64_t>(controls.size()) == rows * U, "controls", "values",
            controls.size(), fmt::format("{} steps of {} columns", rows, U));
  }

  static std::vector<std::string> latents_of(const Executor<Real>& executor) {
    std::vector<std::string> names;
    for (const Output& output : executor.scan().graph.outputs) {
      if (output.name.starts_with("latent:")) names.push_back(output.name);
    }
    return names;
  }
  static bool is_global(const Executor<Real>& executor, const std::string& output) {
    const Graph& graph = executor.scan().graph;
    return graph[graph.output(output)].kind.base == RowKind::Base::sequence;
  }

  double variance_of(double mean) const {
    return model_->shape().emission == Emission::Kind::poisson ? mean : mean * (1 - mean);
  }

  // --- summaries ------------------------------------------------------------------------------

  static Evaluation summarise(const data::SequenceSet& set, const std::string& bound,
                              std::int64_t samples,
                              const std::vector<std::vector<double>>& likelihood,
                              const std::vector<std::vector<double>>& kl) {
    Evaluation e;
    e.bound = bound, e.samples = samples;
    e.steps = set.steps(), e.sequences = set.count(), e.observed = set.observed();
    double variance = 0;
    const double S = static_cast<double>(samples);
    for (std::size_t i = 0; i < likelihood.size(); ++i) {
      std::vector<double> w(likelihood[i].size());
      for (std::size_t s = 0; s < w.size(); ++s) w[s] = likelihood[i][s] - kl[i][s];
      const double mean = std::accumulate(w.begin(), w.end(), 0.0) / S;
      e.reconstruction += std::accumulate(likelihood[i].begin(), likelihood[i].end(), 0.0) / S;
      e.kl += std::accumulate(kl[i].begin(), kl[i].end(), 0.0) / S;
      if (bound == "iwae") {
        e.per_sequence.push_back(log_mean_exp(w));
        // Delta method: Var(log mean w) = sum of squared shares - 1/S.
        variance += 1 / effective_sample_size(normalised(w)) - 1 / S;
      } else {
        e.per_sequence.push_back(mean);
        double squares = 0;
        for (double x : w) squares += (x - mean) * (x - mean);
        variance += squares / (S - 1) / S;
      }
      e.log_likelihood += e.per_sequence.back();
    }
    e.standard_error = samples > 1 ? std::sqrt(variance) : std::numeric_limits<double>::quiet_NaN();
    return e;
  }

  /// Mean and deviation over the first axis of [S][...].
  static void moments(const std::vector<double>& samples, std::int64_t S, std::vector<double>& mean,
                      std::vector<double>& std) {
    const std::size_t size = samples.size() / index(S);
    mean.assign(size, 0), std.assign(size, 0);
    for (std::size_t s = 0; s < index(S); ++s) {
      for (std::size_t i = 0; i < size; ++i)
        mean[i] += samples[s * size + i] / static_cast<double>(S);
    }
    for (std::size_t s = 0; s < index(S); ++s) {
      for (std::size_t i = 0; i < size; ++i) std[i] += std::pow(samples[s * size + i] - mean[i], 2);
    }
    for (double& x : std) x = std::sqrt(x / static_cast<double>(S));
  }

  static Imputation weigh(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                          const std::vector<std::vector<double>>& weights,
                          const std::vector<double>& draws, const std::vector<double>& means,
                          const std::vector<double>& variances) {
    const std::int64_t R = set.rows(), D = set.D;
    const std::vector<std::int64_t> starts = set.starts();
    Imputation out;
    out.S = samples;
    out.mean = set.values, out.std.assign(index(R * D), 0),
    out.samples.resize(index(samples * R * D));
    for (std::int64_t i = 0; i < set.count(); ++i) {
      std::vector<double> share = normalised(weights[index(i)]);
      const double ess = effective_sample_size(share);
      out.ess.push_back(ess);
      if (ess < static_cast<double>(samples) / 4) {
        std::fill(share.begin(), share.end(), 1 / static_cast<double>(samples));
      }
      const Words random =
          philox(noise_counter(kResamplingSite, 0, set.ids[index(i)], 0, 0, 1, 0), seed);
      const std::vector<std::size_t> ancestors = resample(share, uniform(random.w[0]));
      for (std::int64_t k = starts[index(i)] * D; k < starts[index(i) + 1] * D; ++k) {
        if (!std::isnan(set.values[index(k)])) {
          for (std::int64_t s = 0; s < samples; ++s)
            out.samples[index(s * R * D + k)] = set.values[index(k)];
          continue;
        }
        double mean = 0, square = 0;
        for (std::int64_t s = 0; s < samples; ++s) {
          const std::size_t at = index(s * R * D + k);
          mean += share[index(s)] * means[at];
          square += share[index(s)] * (means[at] * means[at] + variances[at]);
          out.samples[at] = draws[ancestors[index(s)] * index(R * D) + index(k)];
        }
        out.mean[index(k)] = mean,
        out.std[index(k)] = std::sqrt(std::max(0.0, square - mean * mean));
      }
    }
    return out;
  }

  std::unique_ptr<Model> model_;
  Machine& machine_;
  Buffer<Real> values_;
  std::map<std::string, Executor<Real>> executors_;
  std::uint64_t step_ = 0;
};

}  // namespace

template <class Real>
std::unique_ptr<Predictor> make_deep_predictor(std::unique_ptr<Model> model,
                                               const std::vector<Real>& values, Machine& machine) {
  return std::make_unique<DeepPredictor<Real>>(std::move(model), values, machine);
}

template std::unique_ptr<Predictor> make_deep_predictor(std::unique_ptr<Model>,
                                                        const std::vector<float>&, Machine&);
template std::unique_ptr<Predictor> make_deep_predictor(std::unique_ptr<Model>,
                                                        const std::vector<double>&, Machine&);

}  // namespace seqvae
