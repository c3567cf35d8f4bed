// The filter, forward in time: predict, then one observed component after the other. Covariances
// are computed once for all sequences that share them.
#include "host/cpu/kalman_chunks.hpp"
#include "host/cpu/kalman_diffuse.hpp"
#include "host/cpu/kalman_group.hpp"
#include "host/cpu/kalman_threads.hpp"

namespace seqvae {
namespace {

using cpu::kalman::Arena;
using cpu::kalman::DiffuseFilter;
using cpu::kalman::GroupFilter;
using cpu::kalman::Parts;
using cpu::kalman::Threads;

template <class Real>
void fill_covariances(const KalmanFilterArgs<Real>& a, std::int64_t row, Real value) {
  const std::int64_t nn = a.model.n * a.model.n;
  if (a.covariance) std::fill_n(a.covariance[row], nn, value);
  if (a.predicted_covariance) std::fill_n(a.predicted_covariance[row], nn, value);
}

template <class Real>
void fill_row(const KalmanFilterArgs<Real>& a, std::int64_t row, Real value) {
  const std::int64_t n = a.model.n;
  if (a.mean) std::fill_n(a.mean[row], n, value);
  if (a.predicted_mean) std::fill_n(a.predicted_mean[row], n, value);
  if (!a.shared_covariance) fill_covariances(a, row, value);
  if (a.log_likelihood) *a.log_likelihood[row] = value;
  if (a.innovation) std::fill_n(a.innovation[row], a.model.m, value);
}

/// The status of a sequence, 0 or 1 + its first bad step: from there on its rows are NaN.
template <class Real>
void conclude(const KalmanFilterArgs<Real>& a, std::int64_t b, std::int32_t status) {
  const RowLayout& layout = a.data.layout;
  a.status[b] = status;
  if (status == 0) return;
  const std::int64_t length = cpu::kalman::length_of(layout, b);
  for (std::int64_t t = status - 1; t < length; ++t) {
    fill_row(a, cpu::kalman::row_of(layout, t, b), std::numeric_limits<Real>::quiet_NaN());
  }
}

/// Sequences whose covariances are the same are filtered together.
template <class Real>
bool covariances_are_shared(const KalmanFilterArgs<Real>& a) {
  return cpu::kalman::covariances_are_shared(a.model, a.data);
}

/// What a thread works with.
template <class Real>
struct FilterScratch {
  GroupFilter<Real> group;
  DiffuseFilter<Real> diffuse;
  cpu::kalman::Summariser<Real> summariser;
  FilterScratch(const KalmanFilterArgs<Real>& a, std::int64_t most, Arena& arena)
      : group(a, most, arena), diffuse(a, arena), summariser(a.model, a.data, a.form, arena) {}
};

/// The filter of a call: its sequences, or their chunks, dealt to threads.
template <class Real>
class Filter {
 public:
  Filter(const KalmanFilterArgs<Real>& a, Arena& arena)
      : a_(a),
        parts_(cpu::kalman::parts_for(a.data.layout.B, covariances_are_shared(a),
                                      a.pool != nullptr ? a.pool->count() : 1)),
        threads_(
            a.pool,
            [&a, most = parts_.size](Arena& from) { return FilterScratch<Real>(a, most, from); },
            arena) {
    const std::int64_t n = a.model.n, T = a.data.layout.T, B = a.data.layout.B;
    const std::int64_t chosen = cpu::kalman::default_chunk(a.model, a.data, threads_.count());
    chunk_ = a.chunk > 0 ? a.chunk : a.shared_covariance ? T : chosen;
    chunks_ = chunk_ >= T ? 1 : (T + chunk_ - 1) / chunk_;
    if (chunks_ > 1) {
      summaries_ = arena.take<Real>(B * chunks_ * cpu::kalman::ChunkSummary<Real>::size(n));
      starts_ = arena.take<Real>(B * chunks_ * (n + n * n));
      for (std::int32_t** p : {&status_, &summarised_, &plan_}) {
        *p = arena.take<std::int32_t>(B * chunks_);
      }
      done_ = arena.take<std::int64_t>(B);
      constant_ = cpu::kalman::is_constant(a.model, a.data);
      if (constant_) {
        settled_ = arena.take<Real>(B * GroupFilter<Real>::settled_size(n, a.model.m));
        has_settled_ = arena.take<std::int32_t>(B);
      }
    }
  }

  void run() {
    const std::int64_t B = a_.data.layout.B;
    for (std::int32_t* out : {a_.merge_step, a_.diffuse_steps}) {
      if (out != nullptr) std::fill_n(out, B, 0);
    }
    if (chunks_ > 1) {
      run_chunks();
    } else if (covariances_are_shared(a_)) {
      const std::int64_t writer = part_of_the_longest();
      share(parts_.count(), [&](std::int64_t i, FilterScratch<Real>& s) {
        const std::int64_t T = a_.data.layout.T, first = parts_.begin(i), end = parts_.end(i);
        const std::int64_t steps = s.group.run(T, first, end - first, i == writer);
        for (std::int64_t b = first; b < end; ++b) conclude(a_, b, s.group.status(b - first));
        for (std::int64_t t = steps; a_.shared_covariance && i == writer && t < T; ++t) {
          const bool broke = t < s.group.longest();
          fill_covariances(a_, t, broke ? std::numeric_limits<Real>::quiet_NaN() : Real(0));
        }
      });
    } else {
      share(B, [&](std::int64_t b, FilterScratch<Real>& s) {
        conclude(a_, b, begin(b, a_.data.layout.T, s));
      });
    }
  }

 private:
  template <class Work>
  void share(std::int64_t count, const Work& work) {
    threads_.deal(a_.workspace, count, work);
  }

  /// Which writes the covariances that all share.
  std::int64_t part_of_the_longest() const {
    std::int64_t longest = 0;
    for (std::int64_t b = 1; b < parts_.sequences; ++b) {
      if (length(b) > length(longest)) longest = b;
    }
    return longest / parts_.size;
  }

  /// Steps 0 .. end of sequence b, further where it is diffuse for longer, or settles soon. The
  /// moments after them are scratch.group's, and `done` the steps.
  std::int32_t begin(std::int64_t b, std::int64_t end, FilterScratch<Real>& s,
                     std::int64_t* done = nullptr) {
    std::int64_t merged = 0;
    if (a_.model.diffuse != nullptr) {
      if (const std::int32_t status = filter_diffuse(a_, b, s.diffuse)) return status;
      merged = a_.merge_step[b];
    }
    if (done != nullptr) {  // to the end of a chunk
      end = *done = std::max(end, (merged + chunk_ - 1) / chunk_ * chunk_);
    }
    s.group.resume(merged, end, b, s.diffuse.moments.m, s.diffuse.moments.P);
    const std::int64_t most = std::min(length(b), cpu::kalman::kSettlesWithin);
    while (done != nullptr && constant_ && !s.group.settled() && *done < most) {
      if (s.group.status(0) != 0) break;
      s.group.go_on(*done, *done + chunk_, b);
      *done += chunk_;
    }
    return s.group.status(0);
  }

  cpu::kalman::ChunkSummary<Real> summary(std::int64_t i) const {
    const std::int64_t n = a_.model.n;
    return {n, summaries_ + i * cpu::kalman::ChunkSummary<Real>::size(n)};
  }
  /// m[n] and P[n][n] before a chunk.
  Real* start(std::int64_t i) const {
    const std::int64_t n = a_.model.n;
    return starts_ + i * (n + n * n);
  }

  enum Plan : std::int32_t { nothing, one_chunk, to_the_end };
  std::int64_t length(std::int64_t b) const { return cpu::kalman::length_of(a_.data.layout, b); }

  /// What the steps of b after the first chunk have settled to, or null.
  Real* settled(std::int64_t b) const {
    if (!constant_ || has_settled_[b] == 0) return nullptr;
    return settled_ + b * GroupFilter<Real>::settled_size(a_.model.n, a_.model.m);
  }

  /// Chunk i = b chunks_ + its place. The first of each sequence is filtered, and the others are
  /// summarised; then each knows the moments that it starts from, and is filtered. In a model that
  /// does not change the first comes first, until its covariances have settled.
  void run_chunks() {
    const std::int64_t B = a_.data.layout.B;
    if (constant_) share(B, [this](std::int64_t b, FilterScratch<Real>& s) { begin_chunks(b, s); });
    share(B * chunks_, [this](std::int64_t i, FilterScratch<Real>& s) { open_chunk(i, s); });
    share(B, [this](std::int64_t b, FilterScratch<Real>& s) { find_starts(b, s); });
    share(B * chunks_, [this](std::int64_t i, FilterScratch<Real>& s) { filter_chunk(i, s); });
    for (std::int64_t b = 0; b < B; ++b) {
      const std::int32_t* status = status_ + b * chunks_;
      const std::int32_t* bad =
          std::find_if(status, status + chunks_, [](std::int32_t x) { return x != 0; });
      conclude(a_, b, bad == status + chunks_ ? 0 : *bad);
    }
  }

  /// The first chunk of sequence b.
  void begin_chunks(std::int64_t b, FilterScratch<Real>& s) {
    const std::int64_t n = a_.model.n, i = b * chunks_;
    done_[b] = 0;
    status_[i] = begin(b, chunk_, s, &done_[b]);
    std::copy_n(s.group.last_mean(), n, start(i));
    std::copy_n(s.group.last_covariance(), n * n, start(i) + n);
    if (!constant_) return;
    has_settled_[b] = status_[i] == 0 && s.group.settled() ? 1 : 0;
    if (has_settled_[b] != 0) s.group.save_settled(chunk_, settled(b), s.summariser.scratch());
  }
  void open_chunk(std::int64_t i, FilterScratch<Real>& s) {
    const std::int64_t b = i / chunks_, first = i % chunks_ * chunk_, end = first + chunk_;
    if (first == 0) {
      if (!constant_) begin_chunks(b, s);
      return;
    }
    status_[i] = 0;
    if (constant_ && first < done_[b]) return;
    summarised_[i] = 0;
    if (end >= length(b)) return;  // the last of a sequence need no summary
    if (const Real* covariances = settled(b)) {
      Real* mean = summary(i).b;
      std::fill_n(mean, a_.model.n, Real(0));
      s.group.resume_settled(first, end, b, mean, covariances);
      std::copy_n(s.group.last_mean(), a_.model.n, mean);
      summarised_[i] = s.group.status(0) == 0;
    } else {
      summarised_[i] = s.summariser.summarise(first, end, b, summary(i));
    }
  }

  /// The moments before each chunk of sequence b. One without a summary goes on to the end.
  void find_starts(std::int64_t b, FilterScratch<Real>& s) {
    const std::int64_t n = a_.model.n, size = n + n * n, first = b * chunks_;
    std::fill_n(plan_ + first, chunks_, nothing);
    if (status_[first] != 0) return;
    const Real* from = start(first);
    for (std::int64_t place = done_[b] / chunk_; place * chunk_ < length(b); ++place) {
      const std::int64_t i = first + place;
      if (from != start(i)) std::copy_n(from, size, start(i));
      plan_[i] = to_the_end;
      if (place == chunks_ - 1 || summarised_[i] == 0) return;
      std::copy_n(start(i), size, start(i + 1));
      if (Real* covariances = settled(b)) {
        cpu::multiply_vector(n, n, s.group.power_of(covariances), start(i), start(i + 1));
        cpu::axpy(n, Real(1), summary(i).b, start(i + 1));
      } else if (!s.summariser.apply(summary(i), start(i + 1), start(i + 1) + n)) {
        return;
      }
      plan_[i] = one_chunk;
      from = start(i + 1);
    }
  }

  void filter_chunk(std::int64_t i, FilterScratch<Real>& s) {
    if (plan_[i] == nothing) return;
    const std::int64_t b = i / chunks_, first = i % chunks_ * chunk_;
    const std::int64_t end = plan_[i] == one_chunk ? first + chunk_ : length(b);
    if (const Real* covariances = settled(b)) {
      s.group.resume_settled(first, end, b, start(i), covariances);
    } else {
      s.group.resume(first, end, b, start(i), start(i) + a_.model.n);
    }
    status_[i] = s.group.status(0);
  }

  const KalmanFilterArgs<Real>& a_;
  Parts parts_;
  Threads<FilterScratch<Real>> threads_;
  std::int64_t chunk_ = 0, chunks_ = 1;
  Real *summaries_ = nullptr, *starts_ = nullptr;
  std::int32_t *status_ = nullptr, *summarised_ = nullptr, *plan_ = nullptr;  // of chunks
  std::int64_t* done_ = nullptr;  // steps of each sequence that its first chunk came to
  bool constant_ = false;         // settled covariances are looked for, and kept:
  Real* settled_ = nullptr;
  std::int32_t* has_settled_ = nullptr;
};

}  // namespace

std::int64_t kalman_chunk(std::int64_t T, std::int64_t B, int threads, bool constant) {
  // Chunks are three times the work, twice where covariances settle; there the first goes alone.
  const std::int64_t each = B > 0 ? threads / B : 0, parts = constant ? 4 * each : each;
  if (each <= (constant ? 2 : 3)) return std::max<std::int64_t>(T, 1);
  return std::max<std::int64_t>((T + parts - 1) / parts, constant ? 1024 : 64);
}

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& args) {
  Arena arena;
  Filter<Real>(args, arena);
  return arena.used();
}

template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<double>&);

namespace cpu {

template <class Real>
void kalman_filter(const KalmanFilterArgs<Real>& a) {
  check(a);
  const RowLayout& layout = a.data.layout;
  Arena arena(a.workspace);
  Filter<Real>(a, arena).run();
  if (layout.offsets != nullptr) return;
  for (std::int64_t b = 0; b < layout.B; ++b) {
    for (std::int64_t t = kalman::length_of(layout, b); t < layout.T; ++t) {
      fill_row(a, t * layout.B + b, Real(0));
    }
  }
}

template void kalman_filter(const KalmanFilterArgs<float>&);
template void kalman_filter(const KalmanFilterArgs<double>&);

}  // namespace cpu
}  // namespace seqvae
