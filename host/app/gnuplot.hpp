// A picture drawn by gnuplot: data and commands in, a .png or .svg out.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace seqvae::app {

class Gnuplot {
 public:
  /// Of `width` x `height` pixels, with the look of all our figures set.
  Gnuplot(std::filesystem::path path, int width, int height);

  /// A table of columns of equal length (NaN: a gap); gives the name to plot it by.
  std::string table(const std::vector<std::vector<double>>& columns);
  /// rows x columns values as an image; gives the name to plot it by, `matrix`.
  std::string matrix(std::span<const double> values, std::size_t rows, std::size_t columns);
  /// Commands, a line each.
  void add(const std::string& commands) { script_ += commands + "\n"; }
  /// Draws, and puts the file in its place. \throws Error where gnuplot fails.
  void save();

  /// Before any work: gnuplot is there, `path` ends in .png or .svg and can be written to.
  /// \throws InputError.
  static void check(const std::string& path);

 private:
  std::filesystem::path path_;
  std::string script_;
  int width_, height_, blocks_ = 0;
};

/// Text as gnuplot takes it literally: in quotes, without its own markup.
std::string quoted(const std::string& text);

}  // namespace seqvae::app
