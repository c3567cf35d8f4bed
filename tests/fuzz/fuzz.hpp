// What every fuzz target asks of a reader: it accepts its input, or throws InputError of one line.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "seqvae/core/error.hpp"

namespace seqvae::fuzz {

template <class Read>
int read(const std::uint8_t* data, std::size_t count, const Read& reader) {
  try {
    reader(std::string_view(reinterpret_cast<const char*>(data), count));
  } catch (const InputError& error) {
    const std::string_view message = error.what();
    if (!message.starts_with("fuzz: ") || message.find('\n') != message.npos) std::abort();
  }
  return 0;
}

}  // namespace seqvae::fuzz
