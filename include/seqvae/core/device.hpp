/// \file  Where memory lies and work is done.
#pragma once
#include <string>
#include <string_view>

namespace seqvae {

/// The CPU, or a CUDA device by its index.
class Device {
 public:
  enum class Kind { cpu, cuda };

  static Device cpu() { return Device(Kind::cpu, 0); }
  /// \throws InvalidArgument where there is no such device or the build has no CUDA.
  static Device cuda(int index);
  /// The same unasked: where another framework's memory may lie, in a build without CUDA too.
  static Device cuda_unchecked(int index) { return Device(Kind::cuda, index); }
  /// The first CUDA device where there is one, else the CPU.
  static Device best();
  /// "auto", "cpu", "cuda" or "cuda:N". \throws InvalidArgument naming the rule.
  static Device parse(std::string_view text);
  /// How many CUDA devices this process sees; 0 in a build without CUDA.
  static int cuda_count();

  Kind kind() const { return kind_; }
  int index() const { return index_; }
  bool is_cpu() const { return kind_ == Kind::cpu; }
  std::string name() const;  ///< "cpu" or "cuda:N"
  friend bool operator==(const Device&, const Device&) = default;

 private:
  Device(Kind kind, int index) : kind_(kind), index_(index) {}
  Kind kind_;
  int index_;
};

}  // namespace seqvae
