// Where each value of a scan stands: aliases, liveness, offsets in one arena.
#pragma once
#include <cstdint>
#include <vector>

#include "seqvae/graph/scan.hpp"

namespace seqvae {

/// Storage of a node, shared by its views.
struct Storage {
  std::int32_t root = -1;   ///< the node that owns the memory
  std::int64_t column = 0;  ///< first column within the root's rows
  std::int64_t stride = 0;  ///< columns of the root; 0 for one shared row
  bool local = false;       ///< one step's rows only: reused by every step of its loop
  bool parameter = false;   ///< stands in the parameter buffer
};

/// What does not depend on sizes.
struct Plan {
  std::vector<Storage> storage;         ///< of each node
  std::vector<std::int32_t> first_use;  ///< of each root: places in the order of execution
  std::vector<std::int32_t> last_use;
  std::vector<std::vector<std::int32_t>> placed;  ///< concat: 1 where the part was written in place
};

Plan make_plan(const Scan& scan);

/// Elements of a value's rows for a capacity.
struct Capacity {
  std::int64_t rows = 0;       ///< R
  std::int64_t sequences = 0;  ///< B
  std::int64_t particles = 1;
  friend bool operator==(const Capacity&, const Capacity&) = default;
};

/// Offset of each root in elements, a multiple of 16; the arena's size last.
std::vector<std::int64_t> place(const Scan& scan, const Plan& plan, const Capacity& capacity);

}  // namespace seqvae
