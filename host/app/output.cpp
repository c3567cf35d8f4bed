#include "host/app/output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "seqvae/core/error.hpp"

namespace seqvae::app {
namespace {

std::string text_of(const io::Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    return std::isfinite(number) ? fmt::format("{:.6g}", number) : "-";
  }
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_array()) {
    std::string text;
    for (const io::Json& element : value) text += (text.empty() ? "" : ", ") + text_of(element);
    return text;
  }
  return value.dump();
}

std::string label_of(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

std::size_t width_of(const io::Json& report, std::size_t indent) {
  std::size_t width = 0;
  for (const auto& [key, value] : report.items()) {
    width = std::max(width, value.is_object() ? width_of(value, indent + 2) : indent + key.size());
  }
  return width;
}

void print_lines(const io::Json& report, std::size_t indent, std::size_t width) {
  for (const auto& [key, value] : report.items()) {
    if (value.is_object()) {
      fmt::print("{:{}}{}\n", "", indent, label_of(key));
      print_lines(value, indent + 2, width);
    } else {
      fmt::print("{:{}}{:<{}}  {}\n", "", indent, label_of(key), width - indent, text_of(value));
    }
  }
}

}  // namespace

void print_report(const io::Json& report, bool json) {
  if (json) {
    fmt::print("{}\n", report.dump(2, ' ', false, io::Json::error_handler_t::replace));
  } else {
    print_lines(report, 0, width_of(report, 0));
  }
}

void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error("standard output: cannot be written to");
  }
}

}  // namespace seqvae::app
