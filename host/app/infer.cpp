// seqvae infer: the states behind data.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/figures.hpp"
#include "host/app/gnuplot.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "host/app/progress.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::app {
namespace {

struct InferCommand {
  CommonArguments common;
  RunArguments run;
  ModelArguments model;
  DataArguments data;
  std::string out, posterior;
  std::int64_t samples = 10;
};

void check_posterior(const std::string& asked, const std::string& has) {
  if (asked.empty() || asked == has) return;
  if (asked != "filter" && asked != "smooth") {
    throw InputError("--posterior", "", fmt::format("is '{}', must be filter or smooth", asked));
  }
  if (has != "exact") {
    throw InputError("--posterior", "", fmt::format("is {}, the model's is {}", asked, has));
  }
}

void plot(const std::string& picture, const States& states, const data::SequenceSet& set) {
  const std::int64_t n = states.n, steps = set.lengths.front();
  const auto size = static_cast<std::size_t>(steps * n);
  std::vector<double> mean(size, 0), deviation(size, 0);
  if (states.S == 0) {
    const bool smooth = !states.smoothed_mean.empty();
    const std::vector<double>& mu = smooth ? states.smoothed_mean : states.filtered_mean;
    const std::vector<double>& P = smooth ? states.smoothed_covariance : states.filtered_covariance;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t row = i / static_cast<std::size_t>(n), d = i % static_cast<std::size_t>(n);
      mean[i] = mu[i];
      deviation[i] =
          std::sqrt(P[(row * static_cast<std::size_t>(n) + d) * static_cast<std::size_t>(n) + d]);
    }
  } else {
    const std::size_t block = static_cast<std::size_t>(set.rows() * n);
    for (std::size_t i = 0; i < size; ++i) {
      double squares = 0;
      for (std::size_t s = 0; s < static_cast<std::size_t>(states.S); ++s) {
        const double value = states.samples[s * block + i];
        mean[i] += value / static_cast<double>(states.S);
        squares += value * value / static_cast<double>(states.S);
      }
      deviation[i] = std::sqrt(std::max(0.0, squares - mean[i] * mean[i]));
    }
  }
  plot_states(picture, mean, deviation, n, steps);
}

void run(const InferCommand& a) {
  check_output("--out", a.out, {".npz"});
  if (!a.run.plot.empty()) Gnuplot::check(a.run.plot);
  const OpenModel model = open_model(a.model, a.run);
  check_posterior(a.posterior, model.predictor->posterior());
  const OpenData data = open_data(model, a.data, a.common);
  const data::SequenceSet& set = data.set();
  States states;
  {
    ProgressBar bar("infer", !a.common.quiet && !a.common.json);
    states = model.predictor->infer(set, a.samples, a.run.seed_of_draws(), watched(bar));
  }
  const std::int64_t n = states.n, R = set.steps();
  io::NamedArrays arrays;
  const auto put = [&](const char* name, const std::vector<double>& values,
                       std::vector<std::int64_t> shape, std::int64_t width) {
    if (!values.empty())
      arrays[name] = model.array(std::move(shape), counted_rows(set, values, width));
  };
  if (a.posterior != "smooth") {
    put("filtered_mean", states.filtered_mean, {R, n}, n);
    put("filtered_covariance", states.filtered_covariance, {R, n, n}, n * n);
  }
  if (a.posterior != "filter") {
    put("smoothed_mean", states.smoothed_mean, {R, n}, n);
    put("smoothed_covariance", states.smoothed_covariance, {R, n, n}, n * n);
  }
  put("samples", states.samples, {states.S, R, n}, n);
  arrays["lengths"] = io::Array::of({set.count()}, counted_lengths(set));
  if (!a.run.plot.empty()) plot(a.run.plot, states, set);
  io::write_npz(a.out, arrays);
  if (a.common.json || !a.common.quiet) {
    print_report({{"model", model.name},
                  {"posterior", a.posterior.empty() ? model.predictor->posterior() : a.posterior},
                  {"samples", states.S},
                  {"state", n},
                  {"sequences", set.count()},
                  {"steps", R},
                  {"out", a.out}},
                 a.common.json);
  }
}

}  // namespace

void add_infer(Command program) {
  const Command command = program.add("infer", "the states behind data");
  auto arguments = std::make_shared<InferCommand>();
  add_model_arguments(command, arguments->model);
  add_data_arguments(command, arguments->data);
  command.text("--out", arguments->out, "FILE.npz", "samples, lengths").required();
  command.text("--posterior", arguments->posterior, "filter|smooth",
               "given the past, or all of a sequence (what the model has)");
  command.integer("--samples", arguments->samples, 1, "draws a sequence (10)");
  add_run_arguments(command, arguments->run, true);
  add_common(command, arguments->common);
  command.example("seqvae infer runs/dmm --data jsb.npz --out states.npz --samples 20");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app
