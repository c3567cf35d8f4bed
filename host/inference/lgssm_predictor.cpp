#include "seqvae/inference/lgssm_predictor.hpp"

#include <cmath>
#include <numeric>

#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm.hpp"

namespace seqvae {
namespace {

class LgssmPredictor : public Predictor {
 public:
  LgssmPredictor(LgssmMatrices matrices, Machine& machine)
      : model_(std::move(matrices), &machine) {}

  std::vector<std::string> bounds() const override { return {"exact"}; }
  std::string posterior() const override { return "exact"; }

  Evaluation evaluate(const data::SequenceSet& set, const std::string& bound, std::int64_t,
                      std::uint64_t, const Progress& progress) override {
    require(bound == "exact", "evaluate", "bound", bound, "exact for this model");
    const std::vector<double> rows = model_.log_likelihood(set, progress);
    Evaluation e;
    e.bound = bound, e.steps = set.steps(), e.sequences = set.count(), e.observed = set.observed();
    const std::vector<std::int64_t> starts = set.starts();
    for (std::size_t i = 0; i < set.lengths.size(); ++i) {
      e.per_sequence.push_back(std::accumulate(rows.begin() + starts[i] + set.begin[i],
                                               rows.begin() + starts[i + 1], 0.0));
      e.log_likelihood += e.per_sequence.back();
    }
    e.reconstruction = e.log_likelihood;
    if (e.observed > 0) e.residuals = diagnose(model_.innovations(set), set);
    return e;
  }

  States infer(const data::SequenceSet& set, std::int64_t, std::uint64_t,
               const Progress& progress) override {
    Lgssm::States exact = model_.states(set, progress);
    States states;
    states.n = model_.matrices().n;
    states.filtered_mean = std::move(exact.filtered_mean);
    states.filtered_covariance = std::move(exact.filtered_covariance);
    states.smoothed_mean = std::move(exact.smoothed_mean);
    states.smoothed_covariance = std::move(exact.smoothed_covariance);
    return states;
  }

  Forecast forecast(const data::SequenceSet& context, std::int64_t horizon,
                    std::span<const double> controls, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    Lgssm::Forecast exact = model_.forecast(context, horizon, controls, samples, seed, progress);
    Forecast f;
    f.N = context.count(), f.H = horizon, f.D = context.D, f.S = samples, f.gaussian = true;
    f.mean = std::move(exact.mean), f.samples = std::move(exact.samples);
    for (std::size_t row = 0; row < static_cast<std::size_t>(f.N * f.H); ++row) {
      const std::size_t m = static_cast<std::size_t>(f.D);
      for (std::size_t d = 0; d < m; ++d) {
        f.std.push_back(std::sqrt(exact.covariance[(row * m + d) * m + d]));
      }
    }
    return f;
  }

  Imputation impute(const data::SequenceSet& set, std::int64_t samples, std::uint64_t seed,
                    const Progress& progress) override {
    Lgssm::Imputation exact = model_.impute(set, samples, seed, progress);
    Imputation out;
    out.S = samples;
    out.mean = std::move(exact.mean), out.std = std::move(exact.std);
    out.samples = std::move(exact.samples);
    out.ess.assign(set.lengths.size(), static_cast<double>(samples));  // draws are exact
    return out;
  }

  std::vector<double> generate(std::int64_t steps, std::int64_t count,
                               std::span<const double> controls, std::uint64_t seed) override {
    return model_.generate(steps, count, controls, seed);
  }

 private:
  Lgssm model_;
};

}  // namespace

std::unique_ptr<Predictor> make_lgssm_predictor(LgssmMatrices matrices, Machine& machine) {
  return std::make_unique<LgssmPredictor>(std::move(matrices), machine);
}

}  // namespace seqvae
