// A command of the program with its flags: what the commands need of CLI11, whose headers, read
// by command.cpp alone, would cost every file of the program's several seconds.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace seqvae::app {

/// A flag or argument of a command.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}
  Flag required() const;
  /// Only with the other; never with the other.
  Flag needs(Flag other) const;
  Flag excludes(Flag other) const;

 private:
  CLI::Option* option_;
};

/// The program or a command of it. What a flag sets must live as long as the program.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  /// A command of this one; where there are any, one of them must be given.
  Command add(const std::string& name, const std::string& description) const;
  /// What it does, once its arguments are read.
  void runs(std::function<void()> work) const;
  /// Ends the help: an example and the exit statuses.
  void example(const std::string& line) const;

  /// An argument without a flag.
  Flag argument(const std::string& name, std::string& value, const std::string& description) const;
  /// Without a value: given or not.
  Flag flag(const std::string& name, bool& given, const std::string& description) const;
  Flag text(const std::string& name, std::string& value, const std::string& type,
            const std::string& description) const;
  /// "KEY=VALUE", repeatedly.
  Flag settings(const std::string& name, std::vector<std::string>& values,
                const std::string& description) const;

  /// \name A value that is none: InputError "--flag: is 'text', must be rule".
  /// \{
  Flag integer(const std::string& name, std::optional<std::int64_t>& value, std::int64_t least,
               const std::string& description) const;
  Flag integer(const std::string& name, std::int64_t& value, std::int64_t least,
               const std::string& description) const;
  /// "a,b,c"
  Flag list(const std::string& name, std::vector<std::string>& values, const std::string& type,
            const std::string& description) const;
  /// "90", "45s", "30m", "1h30m": seconds.
  Flag duration(const std::string& name, std::optional<double>& seconds,
                const std::string& description) const;
  /// \}

 private:
  Flag parsed(const std::string& name, const std::string& type, const std::string& description,
              std::function<void(const std::string&)> parse) const;

  CLI::App* app_;
};

/// Reads the arguments of the program, whose commands `add_commands` adds, and runs what they ask
/// for: a command, its help or the version.
/// \throws InvalidArgument "command: what is wrong" of a command line that is none, and whatever
/// the command throws.
void run_program(int argc, char** argv, const std::string& version,
                 const std::function<void(Command program)>& add_commands);

}  // namespace seqvae::app
