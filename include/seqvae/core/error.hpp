/// \file  What the library throws, and the one function that checks an argument.
#pragma once
#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace seqvae {

/// Base of all that the library throws on purpose. Alone: the work failed (disk full, training
/// diverged); the program then ends with status 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A caller's mistake: "where: argument = value, must be rule". The program: status 2.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// The text with '?' for control characters: what a file holds may stand in a message of one line.
inline std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

/// A file or a configuration that is not what it should be: "file: place: rule", one line.
/// Status 2.
class InputError : public Error {
 public:
  using Error::Error;
  InputError(std::string_view file, std::string_view place, std::string_view rule)
      : Error(one_line(place.empty() ? fmt::format("{}: {}", file, rule)
                                     : fmt::format("{}: {}: {}", file, place, rule))) {}
};

/// A call into CUDA that failed, with the call's place.
class CudaError : public Error {
 public:
  CudaError(std::string_view call, std::string_view message,
            std::source_location place = std::source_location::current())
      : Error(fmt::format("{}: {} ({}:{})", call, message, place.file_name(), place.line())) {}
};

/// Throws InvalidArgument "where: argument = value, must be rule" unless `holds`.
template <class Value>
void require(bool holds, std::string_view where, std::string_view argument, const Value& value,
             std::string_view rule) {
  if (!holds) {
    throw InvalidArgument(fmt::format("{}: {} = {}, must be {}", where, argument, value, rule));
  }
}

/// Throws InvalidArgument "where: argument is null" where a required pointer is missing.
inline void require_pointer(const void* pointer, std::string_view where,
                            std::string_view argument) {
  if (pointer == nullptr) {
    throw InvalidArgument(fmt::format("{}: {} is null, must point to memory", where, argument));
  }
}

}  // namespace seqvae
