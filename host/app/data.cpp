// seqvae data describe | make | convert
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>

#include "host/app/arguments.hpp"
#include "host/app/commands.hpp"
#include "host/app/output.hpp"
#include "seqvae/data/describe.hpp"
#include "seqvae/data/generators.hpp"

namespace seqvae::app {
namespace {

struct DataCommand {
  CommonArguments common;
  LoadArguments load;
  std::string in, out;
  data::GeneratorOptions generator;
  std::int64_t seed = 0;
};

void print_description(const DataCommand& arguments, const data::Dataset& dataset) {
  const io::Json description = data::describe(dataset);
  if (arguments.common.json) {
    print_report(description, true);
  } else {
    fmt::print("{}", data::describe_text(description));
  }
}

void add_describe(Command parent) {
  const Command command = parent.add("describe", "what is in a data file");
  auto arguments = std::make_shared<DataCommand>();
  command.argument("FILE", arguments->in, ".npz, .npy or .csv").required();
  add_load_arguments(command, arguments->load);
  add_common(command, arguments->common);
  command.example("seqvae data describe ETTh1.csv --time date --split-at 0.6,0.8");
  command.runs([arguments] {
    print_description(*arguments, data::load(arguments->in, over({}, arguments->load)));
  });
}

void add_make(Command parent) {
  const Command command = parent.add("make", "a data set made on the spot");
  auto arguments = std::make_shared<DataCommand>();
  data::GeneratorOptions& generator = arguments->generator;
  command
      .argument("GENERATOR", generator.name,
                fmt::format("one of {}", fmt::join(data::generator_names(), ", ")))
      .required();
  command.text("--out", arguments->out, "FILE.npz", "the data set").required();
  command.integer("--train", generator.train, 0, "sequences to learn from (500)");
  command.integer("--valid", generator.valid, 0, "sequences to choose by (100)");
  command.integer("--test", generator.test, 0, "sequences to judge by (100)");
  command.integer("--steps", generator.steps, 1, "of each sequence (100)");
  command.integer("--size", generator.size, 4, "ball: frames of N x N pixels (16)");
  command.integer("--seed", arguments->seed, 0, "of all that is drawn (0)");
  add_common(command, arguments->common);
  command.example("seqvae data make ball --size 20 --out ball.npz");
  command.runs([arguments] {
    check_output("--out", arguments->out, {".npz"});
    arguments->generator.seed = static_cast<std::uint64_t>(arguments->seed);
    data::save_npz(arguments->out, data::make(arguments->generator));
    if (arguments->common.json || !arguments->common.quiet) {
      print_description(*arguments, data::load(arguments->out));
    }
  });
}

void add_convert(Command parent) {
  const Command command = parent.add("convert", "a data file in another format");
  auto arguments = std::make_shared<DataCommand>();
  command.argument("IN", arguments->in, ".npz, .npy or .csv").required();
  command.argument("OUT", arguments->out, ".npz, .npy or .csv").required();
  add_load_arguments(command, arguments->load);
  add_common(command, arguments->common);
  command.example("seqvae data convert nile.csv nile.npz --time year");
  command.runs([arguments] {
    check_output("OUT", arguments->out, {".npz", ".npy", ".csv"});
    data::convert(arguments->in, arguments->out, over({}, arguments->load));
    if (arguments->common.json || !arguments->common.quiet) {
      print_report({{"in", arguments->in}, {"out", arguments->out}}, arguments->common.json);
    }
  });
}

}  // namespace

void add_data(Command program) {
  const Command command = program.add("data", "describe, make or convert data files");
  command.example("seqvae data make lorenz --out lorenz.npz");
  add_describe(command);
  add_make(command);
  add_convert(command);
}

}  // namespace seqvae::app
