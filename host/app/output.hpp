// What a command says when it is done: one report, as JSON or as a table.
#pragma once
#include <nlohmann/json.hpp>

#include "seqvae/io/json.hpp"

namespace seqvae::app {

/// JSON: the report and nothing else. Otherwise a line a key, members of objects indented.
void print_report(const io::Json& report, bool json);

/// \throws Error where standard output has not taken all that was printed.
void flush_output();

}  // namespace seqvae::app
