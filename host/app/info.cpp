// seqvae info: which models, devices and kernels there are, and what a model's graph becomes.
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "host/app/arguments.hpp"
#include "host/app/commands.hpp"
#include "host/app/output.hpp"
#include "host/app/settings.hpp"
#include "seqvae/core/device.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/core/threads.hpp"
#include "seqvae/graph/executor.hpp"
#include "seqvae/models/registry.hpp"

namespace seqvae::app {
namespace {

struct InfoCommand {
  CommonArguments common;
  bool models = false, devices = false, kernels = false;
  std::string graph, emission = "gaussian", mode = "infer";
  std::int64_t x_width = 1, controls_width = 0;
  bool missing = false, gradient = false;
  std::vector<std::string> set;
};

io::Json models() {
  io::Json list = io::Json::object();
  list["lgssm"] = "linear-Gaussian state-space model: exact filter, smoother and likelihood";
  for (const ModelEntry& entry : model_registry()) list[entry.name] = entry.summary;
  return list;
}

io::Json devices() {
  return {{"cpu", fmt::format("{} threads", ThreadPool().count())},
          {"cuda", fmt::format("{} devices", Device::cuda_count())}};
}

io::Json kernels() {
  return {{"activation", "activation, activation_backward"},
          {"arithmetic",
           "multiply_add, gated_mix, gated_mix_backward, select, clamp, clamp_backward, "
           "matrix_product"},
          {"categorical",
           "softmax, softmax_backward, one_hot_sample, categorical_kl, categorical_kl_backward"},
          {"chain", "chain, of the contracts of a step"},
          {"dense", "dense, products, dense_weight_gradient, weight_gradients"},
          {"dropout", "dropout"},
          {"gaussian",
           "gaussian_head, gaussian_sample, gaussian_kl, gaussian_sample_kl, "
           "gaussian_log_density, and their _backward"},
          {"gru", "gru, gru_backward"},
          {"kalman",
           "kalman_filter, kalman_smoother, kalman_backward, kalman_forecast, kalman_simulate, "
           "kalman_sample, kalman_sample_backward"},
          {"likelihood", "likelihood, likelihood_backward, likelihood_sample, likelihood_mean"},
          {"lstm", "lstm, lstm_backward"},
          {"movement", "move_rows, sum_over_particles"},
          {"normalization", "normalize, normalize_backward"},
          {"optimizer", "adamw"},
          {"recurrent_cell", "gru_cell, lstm_cell, and their _backward"},
          {"reduce", "sum_over_time, sum_over_rows, log_mean_exp, log_mean_exp_backward"}};
}

std::string graph(const InfoCommand& arguments) {
  io::Json settings = default_settings(arguments.graph);
  std::vector<Setting> given;
  for (const std::string& text : arguments.set) given.push_back(parse_setting(text));
  apply_settings(settings, given);
  DataShape shape;
  shape.x_width = arguments.x_width;
  shape.controls_width = arguments.controls_width;
  shape.missing = arguments.missing;
  shape.emission = parse_emission(arguments.emission);
  const auto model =
      find_model(arguments.graph)
          .make(io::JsonView(settings.at("configuration"), "--set", "configuration"), shape);
  ScanOptions options;
  options.gradient = arguments.gradient;
  if (arguments.mode != "infer" && arguments.mode != "generate") {
    throw InputError("--mode", "",
                     fmt::format("is '{}', must be infer or generate", arguments.mode));
  }
  if (arguments.mode == "generate") {
    if (arguments.gradient) throw InputError("--gradient", "", "is of --mode infer");
    options.trace.mode = Mode::generate;
  }
  const Scan scan = model->scan(options);
  const Queue queue(Device::best());
  return describe(scan.graph, scan.schedule, model->parameters().names()) +
         describe_loops(scan, model->parameters(), queue);
}

void run(const InfoCommand& arguments) {
  const bool all =
      !arguments.models && !arguments.devices && !arguments.kernels && arguments.graph.empty();
  io::Json report = io::Json::object();
  if (all) report["version"] = SEQVAE_VERSION;
  if (all || arguments.models) report["models"] = models();
  if (all || arguments.devices) report["devices"] = devices();
  if (all || arguments.kernels) report["kernels"] = kernels();
  const std::string text = arguments.graph.empty() ? "" : graph(arguments);
  if (arguments.common.json && !text.empty()) report["graph"] = text;
  if (!report.empty()) print_report(report, arguments.common.json);
  if (!arguments.common.json) fmt::print("{}", text);
}

}  // namespace

void add_info(Command program) {
  const Command command = program.add("info", "models, devices, kernels; the graph of a model");
  auto arguments = std::make_shared<InfoCommand>();
  command.flag("--models", arguments->models, "the models by name");
  command.flag("--devices", arguments->devices, "where models can run");
  command.flag("--kernels", arguments->kernels, "the kernel families and their contracts");
  const Flag graph = command.text("--graph", arguments->graph, "MODEL",
                                  "what runs before, in and after the loop over time");
  const auto of_graph = [&](Flag option) { option.needs(graph); };
  of_graph(command.integer("--x-width", arguments->x_width, 1, "columns of the data (1)"));
  of_graph(command.integer("--controls-width", arguments->controls_width, 0,
                           "columns of the controls (0)"));
  of_graph(command.text("--emission", arguments->emission, "NAME",
                        "bernoulli, gaussian, categorical or poisson (gaussian)"));
  of_graph(
      command.text("--mode", arguments->mode, "infer|generate", "data given, or drawn (infer)"));
  of_graph(command.flag("--missing", arguments->missing, "some values are missing"));
  of_graph(command.flag("--gradient", arguments->gradient, "with the gradient, as in training"));
  of_graph(command.settings("--set", arguments->set, "configuration.KEY=VALUE, repeatedly"));
  add_common(command, arguments->common);
  command.example("seqvae info --graph dmm --x-width 88 --emission bernoulli");
  command.runs([arguments] { run(*arguments); });
}

}  // namespace seqvae::app
