#include "host/app/command.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "seqvae/core/error.hpp"
#include "seqvae/io/json.hpp"

namespace seqvae::app {
namespace {

std::int64_t parse_integer(const std::string& flag, const std::string& text, std::int64_t least) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < least) {
    throw InputError(flag, "", fmt::format("is '{}', must be an integer >= {}", text, least));
  }
  return value;
}

double parse_duration(const std::string& flag, const std::string& text) {
  double seconds = 0;
  const char *at = text.data(), *end = at + text.size();
  bool good = at != end;
  while (good && at != end) {
    double value = 0;
    const auto [stop, error] = std::from_chars(at, end, value, std::chars_format::fixed);
    good = error == std::errc() && value >= 0;
    if (!good) break;
    at = stop;
    double unit = 1;
    if (at != end) {
      unit = *at == 'h' ? 3600 : *at == 'm' ? 60 : *at == 's' ? 1 : 0;
      good = unit > 0;
      ++at;
    }
    seconds += value * unit;
  }
  if (!good || !(seconds > 0)) {
    throw InputError(flag, "",
                     fmt::format("is '{}', must be a time such as 45s, 30m or 1h30m", text));
  }
  return seconds;
}

std::vector<std::string> split(const std::string& flag, const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t first = 0; first <= text.size();) {
    const std::size_t comma = std::min(text.find(',', first), text.size());
    if (comma == first) {
      throw InputError(flag, "", fmt::format("is '{}', must be names between commas", text));
    }
    parts.push_back(text.substr(first, comma - first));
    first = comma + 1;
  }
  return parts;
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

/// What is wrong with the command line.
std::string complaint(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* command = &program;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  // What a command did not know is left with it, or with those around it.
  for (const CLI::App* app = command; app != nullptr; app = app->get_parent()) {
    const std::vector<std::string> extra = app->remaining();
    if (!extra.empty()) return unexpected(*command, extra.front());
  }
  if (command->get_require_subcommand_min() > 0 && command->get_subcommands().empty()) {
    return fmt::format("{}a command is needed: {}", place_of(*command),
                       fmt::join(names_of_commands(*command), ", "));
  }
  return place_of(*command) + error.what();
}

}  // namespace

Flag Flag::required() const {
  option_->required();
  return *this;
}

Flag Flag::needs(Flag other) const {
  option_->needs(other.option_);
  return *this;
}

Flag Flag::excludes(Flag other) const {
  option_->excludes(other.option_);
  return *this;
}

Command Command::add(const std::string& name, const std::string& description) const {
  app_->require_subcommand(1);
  return Command(app_->add_subcommand(name, description));
}

void Command::runs(std::function<void()> work) const { app_->callback(std::move(work)); }

void Command::example(const std::string& line) const {
  app_->footer("Example: " + line +
               "\n\nExit status: 0 done; 1 the work failed; 2 bad input or usage; 130 or 143 "
               "after SIGINT or "
               "SIGTERM.");
}

Flag Command::argument(const std::string& name, std::string& value,
                       const std::string& description) const {
  return Flag(app_->add_option(name, value, description)->type_name(""));
}

Flag Command::flag(const std::string& name, bool& given, const std::string& description) const {
  return Flag(app_->add_flag(name, given, description));
}

Flag Command::text(const std::string& name, std::string& value, const std::string& type,
                   const std::string& description) const {
  return Flag(app_->add_option(name, value, description)->type_name(type));
}

Flag Command::settings(const std::string& name, std::vector<std::string>& values,
                       const std::string& description) const {
  return Flag(
      app_->add_option(name, values, description)->type_name("KEY=VALUE")->expected(1)->take_all());
}

Flag Command::parsed(const std::string& name, const std::string& type,
                     const std::string& description,
                     std::function<void(const std::string&)> parse) const {
  return Flag(
      app_->add_option_function<std::string>(name, std::move(parse), description)->type_name(type));
}

Flag Command::integer(const std::string& name, std::optional<std::int64_t>& value,
                      std::int64_t least, const std::string& description) const {
  return parsed(name, "N", description, [&value, name, least](const std::string& text) {
    value = parse_integer(name, text, least);
  });
}

Flag Command::integer(const std::string& name, std::int64_t& value, std::int64_t least,
                      const std::string& description) const {
  return parsed(name, "N", description, [&value, name, least](const std::string& text) {
    value = parse_integer(name, text, least);
  });
}

Flag Command::list(const std::string& name, std::vector<std::string>& values,
                   const std::string& type, const std::string& description) const {
  return parsed(name, type, description,
                [&values, name](const std::string& text) { values = split(name, text); });
}

Flag Command::duration(const std::string& name, std::optional<double>& seconds,
                       const std::string& description) const {
  return parsed(name, "TIME", description, [&seconds, name](const std::string& text) {
    seconds = parse_duration(name, text);
  });
}

void run_program(int argc, char** argv, const std::string& version,
                 const std::function<void(Command program)>& add_commands) {
  CLI::App program("Sequential variational autoencoders as state-space models.", "seqvae");
  program.set_version_flag("--version", version);
  program.get_formatter()->column_width(34);
  add_commands(Command(&program));
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw InvalidArgument(complaint(program, error));
    program.exit(error);  // help or the version
  }
}

}  // namespace seqvae::app
