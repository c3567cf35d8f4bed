#include "host/app/errors.hpp"

#include <fmt/format.h>

#include <csignal>
#include <new>
#include <vector>

#include "seqvae/core/error.hpp"
#include "seqvae/io/json.hpp"

namespace seqvae::app {
namespace {

constexpr int kFailed = 1, kUsage = 2;

int fail(int status, std::string line) {
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  fmt::print(stderr, "seqvae: {}\n", line);
  return status;
}

std::vector<std::string> names_of_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> names_of_commands(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands(nullptr)) names.push_back(sub->get_name());
  return names;
}

/// "train: " of the innermost command that was named; nothing outside all commands.
std::string place_of(const CLI::App& command) {
  return command.get_parent() == nullptr ? "" : command.get_name() + ": ";
}

std::string unexpected(const CLI::App& command, const std::string& argument) {
  const bool option = argument.starts_with("-");
  const std::string name = option ? argument.substr(0, argument.find('=')) : argument;
  const auto known = option ? names_of_options(command) : names_of_commands(command);
  std::string line = place_of(command) + name;
  line += option                                     ? ": is no option here"
          : command.get_require_subcommand_min() > 0 ? ": is no command"
                                                     : ": is one argument too many";
  if (const auto meant = io::nearest(name, known)) line += "; did you mean '" + *meant + "'?";
  return line;
}

}  // namespace

Interrupted::Interrupted(int number)
    : std::runtime_error(number == SIGINT ? "interrupted" : "terminated"), signal(number) {}

void note(const std::string& what) { fmt::print(stderr, "seqvae: note: {}\n", one_line(what)); }

int report_failure() {
  try {
    throw;
  } catch (const Interrupted& error) {
    return fail(128 + error.signal, error.what());
  } catch (const InputError& error) {
    return fail(kUsage, error.what());
  } catch (const InvalidArgument& error) {
    return fail(kUsage, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return fail(kFailed, error.what());
  }
}

int report_usage(const CLI::App& program, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return program.exit(error);
  const CLI::App* command = &program;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  // What a command did not know is left with it, or with those around it.
  for (const CLI::App* app = command; app != nullptr; app = app->get_parent()) {
    const std::vector<std::string> extra = app->remaining();
    if (!extra.empty()) return fail(kUsage, unexpected(*command, extra.front()));
  }
  if (command->get_require_subcommand_min() > 0 && command->get_subcommands().empty()) {
    return fail(kUsage, fmt::format("{}a command is needed: {}", place_of(*command),
                                    fmt::join(names_of_commands(*command), ", ")));
  }
  return fail(kUsage, place_of(*command) + error.what());
}

}  // namespace seqvae::app
