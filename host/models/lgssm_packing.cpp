#include "host/models/lgssm_packing.hpp"

#include <algorithm>

#include "seqvae/core/error.hpp"

namespace seqvae::lgssm {

void Packing::take(std::vector<Member> members) {
  members_ = std::move(members);
  std::stable_sort(members_.begin(), members_.end(),
                   [](const Member& a, const Member& b) { return a.length > b.length; });
  const std::int64_t T = members_.empty() ? 0 : members_.front().length;
  offsets_.assign(1, 0);
  std::int64_t active = count(), rows = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    while (members_[static_cast<std::size_t>(active - 1)].length <= t) --active;
    rows += active;
    require(rows < (std::int64_t{1} << 31), "lgssm", "rows taken at once", rows, "below 2^31");
    offsets_.push_back(static_cast<std::int32_t>(rows));
  }
  std::vector<std::int32_t> origins;
  std::vector<std::uint32_t> ids;
  for (const Member& member : members_) {
    origins.push_back(static_cast<std::int32_t>(member.origin));
    ids.push_back(member.id);
  }
  offsets_on_device_.upload(offsets_);
  origins_.upload(origins);
  ids_.upload(ids);
}

RowLayout Packing::layout() const {
  RowLayout layout;
  layout.T = static_cast<std::int64_t>(offsets_.size()) - 1, layout.B = count();
  layout.offsets = offsets_on_device_.data(), layout.origins = origins_.data();
  layout.capacity = rows();
  return layout;
}

void Packing::bring(const double* host, std::int64_t width, double* device) const {
  std::vector<double> packed(static_cast<std::size_t>(rows() * width));
  for_each_row([&](const Member& member, std::int64_t t, std::int64_t row) {
    std::copy_n(host + (member.first_row + t) * width, width, packed.data() + row * width);
  });
  queue_->copy(device, packed.data(), packed.size() * sizeof(double));
  queue_->synchronize();
}

void Packing::fetch(const double* device, std::int64_t width, double* host) const {
  std::vector<double> packed(static_cast<std::size_t>(rows() * width));
  queue_->copy(packed.data(), device, packed.size() * sizeof(double));
  queue_->synchronize();
  for_each_row([&](const Member& member, std::int64_t t, std::int64_t row) {
    std::copy_n(packed.data() + row * width, width, host + (member.first_row + t) * width);
  });
}

}  // namespace seqvae::lgssm
