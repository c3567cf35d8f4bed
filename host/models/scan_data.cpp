#include "seqvae/models/scan_data.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

constexpr std::uint32_t kHidingSite = 254;  // beside the initialisation's 255: no model draws there

}  // namespace

void require_support(const data::SequenceSet& set, Emission::Kind emission) {
  if (emission == Emission::Kind::gaussian) return;
  const bool binary = emission == Emission::Kind::bernoulli;
  const bool count = emission == Emission::Kind::poisson;
  const double most = count ? std::numeric_limits<double>::infinity() : 1;
  for (const double x : set.values) {
    if (std::isnan(x) || (x >= 0 && x <= most && (binary || x == std::floor(x)))) continue;
    require(false, "data", "values", x,
            fmt::format("{} with emission {}",
                        count    ? "0, 1, 2, ..."
                        : binary ? "in 0..1"
                                 : "0 or 1",
                        to_string(emission)));
  }
}

template <class Real>
ScanData<Real>::ScanData(const data::SequenceSet& set, const DataShape& shape)
    : D_(set.D),
      U_(shape.controls_width),
      missing_(shape.missing || set.has_missing()),
      lengths_(set.lengths),
      begin_(set.begin),
      ids_(set.ids) {
  require(set.D == shape.x_width, "data", "columns", set.D,
          fmt::format("the model's {}", shape.x_width));
  require(set.U == shape.controls_width, "data", "controls", set.U,
          fmt::format("the model's {} columns", shape.controls_width));
  require_support(set, shape.emission);
  first_row_ = set.starts();
  first_row_.pop_back();
  x_.resize(set.values.size());
  if (missing_) mask_.resize(set.values.size()), missing_x_.resize(set.values.size());
  for (std::size_t i = 0; i < set.values.size(); ++i) {
    const bool seen = !std::isnan(set.values[i]);
    x_[i] = seen ? static_cast<Real>(set.values[i]) : Real{0};
    require(std::isfinite(x_[i]), "data", "values", set.values[i],
            "within float32; standardize them, or use float64");
    if (missing_) mask_[i] = seen ? 1 : 0, missing_x_[i] = seen ? 0 : 1;
  }
  controls_.assign(set.controls.begin(), set.controls.end());
  weighted_ = std::any_of(begin_.begin(), begin_.end(), [](std::int32_t b) { return b > 0; });
  if (weighted_) {
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      for (std::int32_t t = 0; t < lengths_[i]; ++t) weight_.push_back(t >= begin_[i] ? 1 : 0);
    }
  }
}

template <class Real>
std::int64_t ScanData<Real>::steps(std::span<const std::int32_t> members) const {
  std::int64_t steps = 0;
  for (std::int32_t i : members) steps += lengths_[index(i)] - begin_[index(i)];
  return steps;
}

template <class Real>
void ScanData<Real>::hide(std::span<const std::int32_t> members, double probability,
                          std::uint64_t seed, std::uint64_t step) {
  require(missing_, "data", "hide", probability, "0 where the model reads complete data");
  if (whole_x_.empty()) whole_x_ = x_, whole_mask_ = mask_;
  for (std::int32_t i : hidden_) {
    const std::int64_t begin = first_row_[index(i)] * D_, end = begin + lengths_[index(i)] * D_;
    std::copy(whole_x_.begin() + begin, whole_x_.begin() + end, x_.begin() + begin);
    std::copy(whole_mask_.begin() + begin, whole_mask_.begin() + end, mask_.begin() + begin);
    for (std::int64_t k = begin; k < end; ++k) missing_x_[index(k)] = 1 - mask_[index(k)];
  }
  hidden_.assign(members.begin(), members.end());
  for (std::int32_t i : members) {
    for (std::int32_t t = 0; t < lengths_[index(i)]; ++t) {
      for (std::int64_t d = 0; d < D_; d += 4) {
        const Words words =
            philox(noise_counter(kHidingSite, step, ids_[index(i)], 0, t, D_, d / 4), seed);
        for (std::int64_t c = 0; c < std::min<std::int64_t>(4, D_ - d); ++c) {
          if (uniform(words.w[c]) >= probability) continue;
          const std::size_t k = index((first_row_[index(i)] + t) * D_ + d + c);
          x_[k] = mask_[k] = 0, missing_x_[k] = 1;
        }
      }
    }
  }
}

template <class Real>
void ScanData<Real>::bind(std::span<const std::int32_t> members, const ScanOptions& scan,
                          ScanBatch<Real>& batch) {
  require(scan.trace.missing || !missing_, "data", "missing values", "some",
          "none, or the scan traced with them");
  require(scan.weighted || !weighted_, "data", "rows that do not count", "some",
          "none, or the scan weighted");
  batch_lengths_.clear(), batch_first_row_.clear(), batch_ids_.clear();
  for (std::int32_t i : members) {
    batch_lengths_.push_back(lengths_[index(i)]);
    batch_first_row_.push_back(first_row_[index(i)]);
    batch_ids_.push_back(ids_[index(i)]);
  }
  batch.lengths = batch_lengths_, batch.first_row = batch_first_row_,
  batch.sequence_id = batch_ids_;
  const auto set = [&](const char* name, const std::vector<Real>& rows) {
    for (Binding<Real>& binding : batch.bindings) {
      if (binding.name == name) {
        binding.data = rows.data();
        return;
      }
    }
    batch.bindings.push_back({name, rows.data()});
  };
  set("x", x_);
  if (missing_) set("x_mask", mask_), set("x_missing", missing_x_);
  if (U_ > 0) set("controls", controls_);
  if (!scan.weighted) return;
  if (weight_.empty()) weight_.assign(x_.size() / static_cast<std::size_t>(D_), Real{1});
  set("weight", weight_);
}

template class ScanData<float>;
template class ScanData<double>;

}  // namespace seqvae
