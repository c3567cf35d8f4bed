#include "tests/emulation/engine/place.hpp"

#include <fmt/format.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <vector>

namespace seqvae::emulation {
namespace {

struct Segment {
  std::uintptr_t begin, end;
};

const std::vector<Segment>& segments() {
  static const std::vector<Segment> found = [] {
    std::vector<Segment> list;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* out) {
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_LOAD) continue;
            const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            static_cast<std::vector<Segment>*>(out)->push_back({begin, begin + header.p_memsz});
          }
          return 0;
        },
        &list);
    return list;
  }();
  return found;
}

struct CodePlace {
  std::string function, line;  // line: file:line
};

/// What addr2line knows of an address of the program: the innermost inlined function first.
std::vector<CodePlace> ask(std::uintptr_t address) {
  const std::string command = fmt::format("addr2line -f -C -i -e /proc/{}/exe {:#x} 2>/dev/null",
                                          getpid(), address - program_base());
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::vector<CodePlace> places;
  if (!pipe) return places;
  const auto read = [&](std::string& text) {
    std::array<char, 4096> buffer;
    if (fgets(buffer.data(), buffer.size(), pipe.get()) == nullptr) return false;
    text = buffer.data();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return true;
  };
  for (CodePlace place; read(place.function) && read(place.line);) places.push_back(place);
  return places;
}

std::string ask_function(std::uintptr_t address) {
  const auto places = ask(address);
  if (places.empty() || places[0].function.starts_with("?")) return "kernel";
  std::string name = places[0].function;
  const std::string_view anonymous = "(anonymous namespace)::";
  for (auto at = name.find(anonymous); at != std::string::npos; at = name.find(anonymous)) {
    name.erase(at, anonymous.size());
  }
  name.erase(std::min(name.find('('), name.size()));             // parameters
  const auto arguments = std::min(name.find('<'), name.size());  // of a template
  const auto scope = name.find_last_of(": ", arguments);
  return scope == std::string::npos ? name : name.substr(scope + 1);
}

}  // namespace

std::uintptr_t program_base() {
  static const std::uintptr_t base = [] {
    std::uintptr_t first = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* out) {
          *static_cast<std::uintptr_t*>(out) = info->dlpi_addr;
          return 1;  // the program comes first
        },
        &first);
    return first;
  }();
  return base;
}

bool is_static(std::uintptr_t address) {
  for (const Segment& segment : segments()) {
    if (address >= segment.begin && address < segment.end) return true;
  }
  return false;
}

std::string line_of(std::uintptr_t return_address) {
  if (return_address == 0) return {};
  // The emulator's own headers, and wrappers of one instruction, say less than their caller.
  for (const CodePlace& place : ask(return_address - 1)) {
    if (place.line.starts_with("?")) return {};
    if (place.line.find("/emulation/include/") != std::string::npos ||
        place.line.find("/kernels/common/cluster.cuh") != std::string::npos ||
        place.line.find("/kernels/common/mma.cuh") != std::string::npos) {
      continue;
    }
    return place.line.substr(0, place.line.find(" (discriminator"));
  }
  return {};
}

std::string function_at(std::uintptr_t address) {
  static std::unordered_map<std::uintptr_t, std::string> known;
  const auto [entry, is_new] = known.try_emplace(address);
  if (is_new) entry->second = ask_function(address);
  return entry->second;
}

}  // namespace seqvae::emulation
