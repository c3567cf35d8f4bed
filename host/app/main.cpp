// The program seqvae: docs/program.md.
#include "host/app/arguments.hpp"
#include "host/app/commands.hpp"
#include "host/app/errors.hpp"
#include "host/app/output.hpp"
#include "host/app/signals.hpp"

int main(int argc, char** argv) {
  using namespace seqvae::app;
  CLI::App program("Sequential variational autoencoders as state-space models.", "seqvae");
  program.set_version_flag("--version", "seqvae " SEQVAE_VERSION);
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  add_train(program);
  add_evaluate(program);
  add_infer(program);
  add_forecast(program);
  add_impute(program);
  add_generate(program);
  add_data(program);
  add_info(program);
  add_example(program, "seqvae data make lorenz --out lorenz.npz");
  try {
    catch_signals();
    program.parse(argc, argv);
    flush_output();
    return 0;
  } catch (const CLI::ParseError& error) {
    return report_usage(program, error);
  } catch (...) {
    return report_failure();
  }
}
