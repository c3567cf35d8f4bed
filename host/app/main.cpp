// The program seqvae: docs/program.md.
#include "host/app/commands.hpp"
#include "host/app/errors.hpp"
#include "host/app/output.hpp"
#include "host/app/signals.hpp"

namespace seqvae::app {
namespace {

void add_commands(Command program) {
  add_train(program);
  add_evaluate(program);
  add_infer(program);
  add_forecast(program);
  add_impute(program);
  add_generate(program);
  add_data(program);
  add_info(program);
  program.example("seqvae data make lorenz --out lorenz.npz");
}

}  // namespace
}  // namespace seqvae::app

int main(int argc, char** argv) {
  using namespace seqvae::app;
  try {
    catch_signals();
    run_program(argc, argv, "seqvae " SEQVAE_VERSION, add_commands);
    flush_output();
    return 0;
  } catch (...) {
    return report_failure();
  }
}
