// seqvae generate: sequences from the prior.
#include <fmt/format.h>

#include <limits>
#include <memory>

#include "host/app/commands.hpp"
#include "host/app/controls.hpp"
#include "host/app/figures.hpp"
#include "host/app/gnuplot.hpp"
#include "host/app/model.hpp"
#include "host/app/output.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::app {
namespace {

struct GenerateCommand {
  CommonArguments common;
  RunArguments run;
  ModelArguments model;
  std::string out, controls;
  std::int64_t steps = 0, count = 1;
};

void run(const GenerateCommand& a) {
  check_output("--out", a.out, {".npz"});
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  require(a.steps <= most, "generate", "--steps", a.steps, fmt::format("<= {}", most));
  if (!a.run.plot.empty()) Gnuplot::check(a.run.plot);
  const OpenModel model = open_model(a.model, a.run);
  const std::vector<double> controls = read_controls(a.controls, model.U, a.count, a.steps);
  std::vector<double> values =
      model.predictor->generate(a.steps, a.count, controls, a.run.seed_of_draws());
  model.unscale(values);
  io::NamedArrays arrays;
  arrays["values"] = model.array({a.count * a.steps, model.D}, values);
  arrays["lengths"] =
      io::Array::of({a.count}, std::vector<std::int32_t>(static_cast<std::size_t>(a.count),
                                                         static_cast<std::int32_t>(a.steps)));
  if (!a.run.plot.empty()) {
    plot_samples(a.run.plot, values, a.count, a.steps, model.columns(), model.is_roll());
  }
  io::write_npz(a.out, arrays);
  if (a.common.json || !a.common.quiet) {
    print_report(
        {{"model", model.name}, {"sequences", a.count}, {"steps", a.steps}, {"out", a.out}},
        a.common.json);
  }
}

}  // namespace

void add_generate(Command program) {
  const Command command = program.add("generate", "sequences drawn from the model");
  auto arguments = std::make_shared<GenerateCommand>();
  add_model_arguments(command, arguments->model);
  command.integer("--steps", arguments->steps, 1, "of each sequence").required();
  command.integer("--count", arguments->count, 1, "sequences (1)");
  command.text("--controls", arguments->controls, "FILE", "controls of those steps");
  command.text("--out", arguments->out, "FILE.npz", "values, lengths: a data set").required();
  add_run_arguments(command, arguments->run, true);
  add_common(command, arguments->common);
  command.example("seqvae generate runs/dmm --steps 128 --count 4 --out tunes.npz");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app
