#include "host/app/gnuplot.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "host/app/arguments.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/file.hpp"

namespace seqvae::app {
namespace {

bool gnuplot_takes(const std::string& commands) {
  const std::string line = "gnuplot -e '" + commands + "' >/dev/null 2>&1";
  return std::system(line.c_str()) == 0;
}

std::string terminal_for(const std::filesystem::path& path, int width, int height) {
  if (path.extension() == ".svg") {
    return fmt::format(
        "set terminal svg size {},{} font 'Helvetica,13' background 'white' noenhanced", width,
        height);
  }
  const bool cairo = gnuplot_takes("set terminal pngcairo");
  return fmt::format("set terminal {} size {},{} font 'sans,{}' noenhanced{}",
                     cairo ? "pngcairo" : "png", width, height, cairo ? 11 : 10,
                     cairo ? " linewidth 1.3" : "");
}

// Colours are told apart by eyes that see no red or green too (Okabe and Ito).
constexpr const char* kLook =
    "set encoding utf8\n"
    "set border 3 linewidth 0.6 linecolor rgb '#8a8a8a'\n"
    "set tics nomirror out scale 0.4 textcolor rgb '#444444'\n"
    "set xlabel textcolor rgb '#444444'\n"
    "set ylabel textcolor rgb '#444444'\n"
    "set title textcolor rgb '#222222' offset 0,-0.5\n"
    "set grid ytics linewidth 0.5 linecolor rgb '#e4e4e4' linetype 1\n"
    "set key top right reverse Left samplen 2 spacing 1.1 textcolor rgb '#444444' noopaque\n"
    "set style fill solid noborder\n"
    "set linetype 1 linecolor rgb '#0072b2' linewidth 1.6\n"
    "set linetype 2 linecolor rgb '#d55e00' linewidth 1.6\n"
    "set linetype 3 linecolor rgb '#009e73' linewidth 1.6\n"
    "set linetype 4 linecolor rgb '#cc79a7' linewidth 1.6\n"
    "set linetype 5 linecolor rgb '#e69f00' linewidth 1.6\n"
    "set linetype 6 linecolor rgb '#56b4e9' linewidth 1.6\n"
    "set linetype 7 linecolor rgb '#7a5195' linewidth 1.6\n"
    "set linetype 8 linecolor rgb '#5c5c5c' linewidth 1.6\n"
    "set linetype cycle 8\n";

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.9g}", value) : "NaN";
}

}  // namespace

std::string quoted(const std::string& text) {
  std::string safe = "'";
  for (char c : text) {
    if (c == '\'') safe += '\'';
    if (static_cast<unsigned char>(c) >= 32) safe += c;
  }
  return safe + "'";
}

void Gnuplot::check(const std::string& path) {
  check_output("--plot", path, {".png", ".svg"});
  if (!gnuplot_takes("")) throw InputError("--plot", path, "needs gnuplot, which is not installed");
}

Gnuplot::Gnuplot(std::filesystem::path path, int width, int height)
    : path_(std::move(path)), width_(width), height_(height) {
  script_ = kLook;
}

std::string Gnuplot::table(const std::vector<std::vector<double>>& columns) {
  const std::string name = fmt::format("$block{}", blocks_++);
  script_ += name + " << END\n";
  for (std::size_t row = 0; row < columns.front().size(); ++row) {
    for (const std::vector<double>& column : columns) script_ += number(column[row]) + " ";
    script_ += "\n";
  }
  script_ += "END\n";
  return name;
}

std::string Gnuplot::matrix(std::span<const double> values, std::size_t rows, std::size_t columns) {
  const std::string name = fmt::format("$block{}", blocks_++);
  script_ += name + " << END\n";
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t c = 0; c < columns; ++c) script_ += number(values[row * columns + c]) + " ";
    script_ += "\n";
  }
  script_ += "END\n";
  return name;
}

void Gnuplot::save() {
  io::Replacement replacement(path_);
  FILE* pipe = ::popen("gnuplot >/dev/null 2>&1", "w");
  if (pipe == nullptr) throw Error(fmt::format("{}: gnuplot cannot be started", path_.string()));
  const std::string head = terminal_for(path_, width_, height_) + "\nset output " +
                           quoted(replacement.aside().string()) + "\n";
  const std::string all = head + script_ + "unset multiplot\nunset output\n";
  const bool written = std::fwrite(all.data(), 1, all.size(), pipe) == all.size();
  const int status = ::pclose(pipe);
  if (!written || status != 0) {
    throw Error(fmt::format("{}: gnuplot failed (status {})", path_.string(),
                            WIFEXITED(status) ? WEXITSTATUS(status) : -1));
  }
  replacement.commit();
}

}  // namespace seqvae::app
