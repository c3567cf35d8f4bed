// Where each value of a scan stands: aliases, liveness, offsets in one arena.
#pragma once
#include <compare>
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
  bool padded = false;      ///< a row a step of each sequence, [T][B], not packed
  bool given = false;       ///< filled before the run, in memory apart (Loops::padded)
};

/// Over which rows loops run: the packed ones of all steps, so that the rows of a step and how many
/// there are hang on the lengths; or padded ones, at places that do not.
enum class Loops { packed, padded };

/// What does not depend on sizes.
struct Plan {
  std::vector<Storage> storage;         ///< of each node
  std::vector<std::int32_t> first_use;  ///< of each root: places in the order of execution
  std::vector<std::int32_t> last_use;
  std::vector<std::vector<std::int32_t>> placed;  ///< concat: 1 where the part was written in place
};

/// For padded loops after pad_loops().
Plan make_plan(const Scan& scan, Loops loops);

/// A value that is there before anything runs.
bool is_given(const Node& node);
/// A value that looks at the rows of another.
bool is_view(const Node& node);
/// Whether a value's rows are padded where loops are. A view's are those of what it looks at.
bool is_padded(const Scan& scan, NodeId id);

/// Puts to_padded before, and to_packed after each loop, for values a row a step that enter or
/// leave it; but for regions that are said to stay packed.
void pad_loops(Scan& scan, const std::vector<bool>& stays_packed = {});

/// Elements of a value's rows for a capacity.
struct Capacity {
  std::int64_t rows = 0;       ///< R
  std::int64_t sequences = 0;  ///< B
  std::int64_t particles = 1;
  std::int64_t steps = 0;  ///< T, of padded loops
  friend auto operator<=>(const Capacity&, const Capacity&) = default;
};

/// Capacities grow by an eighth: a batch of nearly the same size reuses its plan.
std::int64_t bucket(std::int64_t n);

/// Where roots stand, in elements, multiples of 16: in the arena, or what is given in its own.
struct Places {
  std::vector<std::int64_t> offsets;  ///< of each root
  std::int64_t arena = 0, given = 0;  ///< elements of either
};
Places place(const Scan& scan, const Plan& plan, const Capacity& capacity);

}  // namespace seqvae
