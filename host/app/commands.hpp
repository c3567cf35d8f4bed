// The commands of the program: each adds itself, its flags and what it does.
#pragma once
#include <CLI/CLI.hpp>

namespace seqvae::app {

void add_train(CLI::App& program);
void add_evaluate(CLI::App& program);
void add_infer(CLI::App& program);
void add_forecast(CLI::App& program);
void add_impute(CLI::App& program);
void add_generate(CLI::App& program);
void add_data(CLI::App& program);
void add_info(CLI::App& program);

}  // namespace seqvae::app
