// seqvae data describe | make | convert
#include <fmt/format.h>

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

void add_describe(CLI::App& parent) {
  CLI::App* command = parent.add_subcommand("describe", "what is in a data file");
  auto arguments = std::make_shared<DataCommand>();
  command->add_option("FILE", arguments->in, ".npz, .npy or .csv")->required()->type_name("");
  add_load_arguments(*command, arguments->load);
  add_common(*command, arguments->common);
  add_example(*command, "seqvae data describe ETTh1.csv --time date --split-at 0.6,0.8");
  command->callback([arguments] {
    print_description(*arguments, data::load(arguments->in, over({}, arguments->load)));
  });
}

void add_make(CLI::App& parent) {
  CLI::App* command = parent.add_subcommand("make", "a data set made on the spot");
  auto arguments = std::make_shared<DataCommand>();
  data::GeneratorOptions& generator = arguments->generator;
  command
      ->add_option("GENERATOR", generator.name,
                   fmt::format("one of {}", fmt::join(data::generator_names(), ", ")))
      ->required()
      ->type_name("");
  add_text(*command, "--out", arguments->out, "FILE.npz", "the data set")->required();
  add_integer(*command, "--train", generator.train, 0, "sequences to learn from (500)");
  add_integer(*command, "--valid", generator.valid, 0, "sequences to choose by (100)");
  add_integer(*command, "--test", generator.test, 0, "sequences to judge by (100)");
  add_integer(*command, "--steps", generator.steps, 1, "of each sequence (100)");
  add_integer(*command, "--size", generator.size, 4, "ball: frames of N x N pixels (16)");
  add_integer(*command, "--seed", arguments->seed, 0, "of all that is drawn (0)");
  add_common(*command, arguments->common);
  add_example(*command, "seqvae data make ball --size 20 --out ball.npz");
  command->callback([arguments] {
    check_output("--out", arguments->out, {".npz"});
    arguments->generator.seed = static_cast<std::uint64_t>(arguments->seed);
    data::save_npz(arguments->out, data::make(arguments->generator));
    if (arguments->common.json || !arguments->common.quiet) {
      print_description(*arguments, data::load(arguments->out));
    }
  });
}

void add_convert(CLI::App& parent) {
  CLI::App* command = parent.add_subcommand("convert", "a data file in another format");
  auto arguments = std::make_shared<DataCommand>();
  command->add_option("IN", arguments->in, ".npz, .npy or .csv")->required()->type_name("");
  command->add_option("OUT", arguments->out, ".npz, .npy or .csv")->required()->type_name("");
  add_load_arguments(*command, arguments->load);
  add_common(*command, arguments->common);
  add_example(*command, "seqvae data convert nile.csv nile.npz --time year");
  command->callback([arguments] {
    check_output("OUT", arguments->out, {".npz", ".npy", ".csv"});
    data::convert(arguments->in, arguments->out, over({}, arguments->load));
    if (arguments->common.json || !arguments->common.quiet) {
      print_report({{"in", arguments->in}, {"out", arguments->out}}, arguments->common.json);
    }
  });
}

}  // namespace

void add_data(CLI::App& program) {
  CLI::App* command = program.add_subcommand("data", "describe, make or convert data files");
  command->require_subcommand(1);
  add_example(*command, "seqvae data make lorenz --out lorenz.npz");
  add_describe(*command);
  add_make(*command);
  add_convert(*command);
}

}  // namespace seqvae::app
