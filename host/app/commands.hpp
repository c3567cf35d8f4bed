// The commands of the program: each adds itself, its flags and what it does.
#pragma once
#include "host/app/command.hpp"

namespace seqvae::app {

void add_train(Command program);
void add_evaluate(Command program);
void add_infer(Command program);
void add_forecast(Command program);
void add_impute(Command program);
void add_generate(Command program);
void add_data(Command program);
void add_info(Command program);

}  // namespace seqvae::app
