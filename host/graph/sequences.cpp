#include "host/graph/sequences.hpp"

#include <algorithm>
#include <numeric>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {

template <class Real>
void check(const ScanBatch<Real>& batch) {
  const std::size_t B = batch.lengths.size();
  require(batch.first_row.size() == B, "Executor", "first_row", batch.first_row.size(),
          "one a sequence");
  require(batch.sequence_id.size() == B, "Executor", "sequence_id", batch.sequence_id.size(),
          "one a sequence");
  require(batch.origin.empty() || batch.origin.size() == B, "Executor", "origin",
          batch.origin.size(), "empty or one a sequence");
}

void sort_by_length(std::span<const std::int32_t> lengths, std::vector<std::int32_t>& order) {
  order.resize(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  // Places keep ties in the batch's order, as a stable sort does, without its buffer.
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return lengths[index(a)] != lengths[index(b)] ? lengths[index(a)] > lengths[index(b)] : a < b;
  });
}

template <class Real>
const Real* bound(const ScanBatch<Real>& batch, const std::string& name) {
  for (const Binding<Real>& binding : batch.bindings) {
    if (binding.name == name) return binding.data;
  }
  throw InvalidArgument("Executor: the input " + name + " is not bound");
}

template <class Real>
void Sequences::lay_out(const ScanBatch<Real>& batch) {
  T = members.empty() ? 0 : batch.lengths[index(members[0])];
  const std::size_t count = members.size();
  lengths.resize(count), origins.resize(count), sequence_id.resize(count), first_row.resize(count);
  for (std::size_t b = 0; b < count; ++b) {
    const std::size_t i = index(members[b]);
    require(batch.lengths[i] >= 0, "Executor", "lengths", batch.lengths[i], ">= 0");
    lengths[b] = batch.lengths[i];
    origins[b] = batch.origin.empty() ? 0 : batch.origin[i];
    sequence_id[b] = batch.sequence_id[i];
    first_row[b] = batch.first_row[i];
  }
  offsets.resize(index(T) + 1);
  std::int64_t active = B(), row = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    while (active > 0 && lengths[index(active - 1)] <= t) --active;
    offsets[index(t)] = static_cast<std::int32_t>(row);
    row += active;
  }
  require(row < (std::int64_t{1} << 31), "Executor", "rows of a batch", row, "below 2^31");
  offsets[index(T)] = static_cast<std::int32_t>(row);
}

template void check(const ScanBatch<float>&);
template void check(const ScanBatch<double>&);
template const float* bound(const ScanBatch<float>&, const std::string&);
template const double* bound(const ScanBatch<double>&, const std::string&);
template void Sequences::lay_out(const ScanBatch<float>&);
template void Sequences::lay_out(const ScanBatch<double>&);

}  // namespace seqvae
