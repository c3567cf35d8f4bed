// Philox and Box-Muller of core/random.hpp on vectors: the same operations, hence the same bits;
// and the walk over a layout's rows that hands each its noise.
#if defined(SEQVAE_VECTOR_NOISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQVAE_VECTOR_NOISE_INL
#undef SEQVAE_VECTOR_NOISE_INL
#else
#define SEQVAE_VECTOR_NOISE_INL
#endif

#include "host/cpu/plain/row_places.hpp"
#include "host/cpu/vector_gaussian-inl.hpp"

HWY_BEFORE_NAMESPACE();
#if HWY_NATIVE_FMA
namespace seqvae::cpu::HWY_NAMESPACE {

using U64 = hn::RepartitionToWide<U>;
using VU = hn::Vec<U>;
using VU64 = hn::Vec<U64>;

/// The keys of Philox's ten rounds.
struct RoundKeys {
  std::uint64_t first[10], second[10];

  explicit RoundKeys(std::uint64_t seed) {
    std::uint32_t k0 = static_cast<std::uint32_t>(seed);
    std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      first[round] = k0;
      second[round] = k1;
    }
  }
};

/// Philox 4x32-10 of as many counters as there are 64-bit lanes. Words stand in the low halves;
/// what is in the high halves is never read.
HWY_INLINE void philox(VU64 (&c)[4], const RoundKeys& keys) {
  const VU m0 = hn::Set(U(), 0xD2511F53u), m1 = hn::Set(U(), 0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    const VU64 p0 = hn::MulEven(hn::BitCast(U(), c[0]), m0);
    const VU64 p1 = hn::MulEven(hn::BitCast(U(), c[2]), m1);
    c[0] = hn::Xor3(hn::ShiftRight<32>(p1), c[1], hn::Set(U64(), keys.first[round]));
    c[2] = hn::Xor3(hn::ShiftRight<32>(p0), c[3], hn::Set(U64(), keys.second[round]));
    c[1] = p1;
    c[3] = p0;
  }
}

/// uniform and normal_pair, operation by operation.
HWY_INLINE V uniform(VU word) {
  return hn::MulAdd(hn::ConvertTo(F(), word), set(0x1p-32f), set(0x1p-33f));
}
HWY_INLINE void normal_pair(VU a, VU b, V& first, V& second) {
  const V one = set(1.0f);
  const V u = uniform(a);
  const auto shifted = hn::Sub(hn::BitCast(U(), u), hn::Set(U(), 0x3F3504F3u));
  const V e = hn::ConvertTo(F(), hn::ShiftRight<23>(hn::BitCast(I(), shifted)));
  const auto mantissa =
      hn::Add(hn::And(shifted, hn::Set(U(), 0x007FFFFFu)), hn::Set(U(), 0x3F3504F3u));
  const V f = hn::Sub(hn::BitCast(F(), mantissa), one);
  const V p = polynomial(f, 3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f,
                         -1.6668057665e-1f, 1.4249322787e-1f, -1.2420140846e-1f, 1.1676998740e-1f,
                         -1.1514610310e-1f, 7.0376836292e-2f);
  const V f2 = hn::Mul(f, f);
  V r = hn::MulAdd(e, set(-2.12194440e-4f), hn::Mul(hn::Mul(f, f2), p));
  r = hn::MulAdd(set(-0.5f), f2, r);
  const V log = hn::MulAdd(e, set(0.693359375f), hn::Add(f, r));
  const V radius = hn::Sqrt(hn::Mul(set(-2.0f), log));

  const VU quarter = hn::ShiftRight<30>(hn::Add(b, hn::Set(U(), 0x20000000u)));
  const V x = hn::Mul(hn::ConvertTo(F(), hn::BitCast(I(), hn::Sub(b, hn::ShiftLeft<30>(quarter)))),
                      set(0x1p-30f));
  const V y = hn::Mul(x, x);
  const V s = hn::Mul(polynomial(y, 0x1.921fb6p+0f, -0x1.4abbcep-1f, 0x1.466bbap-4f,
                                 -0x1.32ca9ep-8f, 0x1.4bc85cp-13f),
                      x);
  const V c =
      polynomial(y, 1.0f, -0x1.3bd3ccp+0f, 0x1.03c1dcp-2f, -0x1.55c57ap-6f, 0x1.d9c2e8p-11f);
  const auto odd = hn::RebindMask(F(), hn::TestBit(quarter, hn::Set(U(), 1u)));
  const V cosine = hn::IfThenElse(odd, s, c), sine = hn::IfThenElse(odd, c, s);
  // Bit 1 of quarter + 1 and of quarter, moved to the sign.
  const VU two = hn::Set(U(), 2u);
  const VU cosine_sign = hn::ShiftLeft<30>(hn::And(hn::Add(quarter, hn::Set(U(), 1u)), two));
  const VU sine_sign = hn::ShiftLeft<30>(hn::And(quarter, two));
  first = hn::Mul(radius, hn::Xor(cosine, hn::BitCast(F(), cosine_sign)));
  second = hn::Mul(radius, hn::Xor(sine, hn::BitCast(F(), sine_sign)));
}

/// What a counter's four words become: `store` writes those of a vector of counters.
struct Normals {
  static HWY_INLINE void store(const VU (&random)[4], float* out) {
    V n[4];
    normal_pair(random[0], random[1], n[0], n[1]);
    normal_pair(random[2], random[3], n[2], n[3]);
    hn::StoreInterleaved4(n[0], n[1], n[2], n[3], F(), out);
  }
};
struct Uniforms {
  static HWY_INLINE void store(const VU (&random)[4], float* out) {
    hn::StoreInterleaved4(uniform(random[0]), uniform(random[1]), uniform(random[2]),
                          uniform(random[3]), F(), out);
  }
};

/// A stretch of rows whose noise is drawn at once: whole vectors of counters even where rows are
/// short. A row is split at multiples of 4 * kQuads columns, whatever came before it.
template <class Noise>
class NoiseBlock {
 public:
  static constexpr std::int64_t kQuads = 128;

  struct Segment {
    std::int64_t row, d0, width;
    const float* eps;
  };

  NoiseBlock(const NoiseKey& key, std::uint64_t step)
      : keys_(key.seed), step_(static_cast<std::uint32_t>(step)), site_(key.site << 24) {}

  bool has_room(std::int64_t quads) const { return quads_ + quads <= kQuads; }

  void add(const plain::RowPlace& place, std::uint32_t sequence_id, std::int64_t D, std::int64_t d0,
           std::int64_t width) {
    const std::int64_t quads = (width + 3) / 4;
    const auto first = static_cast<std::uint32_t>(place.t * ((D + 3) / 4) + d0 / 4);
    const auto particle = site_ | static_cast<std::uint32_t>(place.k);
    for (std::int64_t i = 0; i < quads; ++i) {
      c0_[quads_ + i] = first + static_cast<std::uint32_t>(i);
      c1_[quads_ + i] = sequence_id;
      c3_[quads_ + i] = particle;
    }
    segments_[count_++] = {place.row, d0, width, eps_ + 4 * quads_};
    quads_ += quads;
  }

  template <class Visit>
  void flush(Visit&& visit) {
    draw();
    for (std::int64_t i = 0; i < count_; ++i) {
      visit(segments_[i].row, segments_[i].d0, segments_[i].width, segments_[i].eps);
    }
    quads_ = count_ = 0;
  }

 private:
  HWY_NOINLINE void draw() {
    for (std::int64_t i = quads_; i < quads_ + kLanes; ++i) c0_[i] = c1_[i] = c3_[i] = 0;
    for (std::int64_t i = 0; i < quads_; i += kLanes) draw(i);
  }

  /// The noise of the counters from i on, one a lane.
  HWY_INLINE void draw(std::int64_t i) {
    const VU c[4] = {hn::Load(U(), c0_ + i), hn::LoadU(U(), c1_ + i), hn::Set(U(), step_),
                     hn::LoadU(U(), c3_ + i)};
    VU64 even[4], odd[4];
    for (int w = 0; w < 4; ++w) {
      even[w] = hn::BitCast(U64(), c[w]);
      odd[w] = hn::ShiftRight<32>(even[w]);
    }
    philox(even, keys_);
    philox(odd, keys_);
    VU random[4];
    for (int w = 0; w < 4; ++w) {
      random[w] =
          hn::OddEven(hn::BitCast(U(), hn::ShiftLeft<32>(odd[w])), hn::BitCast(U(), even[w]));
    }
    Noise::store(random, eps_ + 4 * i);
  }

  RoundKeys keys_;
  std::uint32_t step_, site_;
  std::int64_t quads_ = 0, count_ = 0;
  alignas(64) std::uint32_t c0_[kQuads + kLanes], c1_[kQuads + kLanes], c3_[kQuads + kLanes];
  alignas(64) float eps_[4 * (kQuads + kLanes)];
  Segment segments_[kQuads];
};

/// Calls visit(row, d0, width, eps) for each row, or part of a row, of the layout, in order; eps is
/// null in padding. A row of no columns is visited too.
template <class Noise = Normals, class Visit>
void for_noise(const NoiseArgs<float>& noise, std::int64_t D, Visit&& visit) {
  if (noise.eps || D == 0) {
    plain::for_each_row(noise.layout, [&](const plain::RowPlace& place) {
      visit(place.row, std::int64_t{0}, D, place.valid ? noise.eps[place.row] : nullptr);
    });
    return;
  }
  if (noise.layout.rows_at_most() == 0) return;
  using Block = NoiseBlock<Noise>;
  Block block(noise.key, *noise.step);
  plain::for_each_row(noise.layout, [&](const plain::RowPlace& place) {
    if (!place.valid) {
      visit(place.row, std::int64_t{0}, D, static_cast<const float*>(nullptr));
      return;
    }
    for (std::int64_t d0 = 0; d0 < D; d0 += 4 * Block::kQuads) {
      const std::int64_t width = std::min(4 * Block::kQuads, D - d0);
      if (!block.has_room((width + 3) / 4)) block.flush(visit);
      block.add(place, noise.sequence_id[place.b], D, d0, width);
    }
  });
  block.flush(visit);
}

}  // namespace seqvae::cpu::HWY_NAMESPACE
#endif  // HWY_NATIVE_FMA
HWY_AFTER_NAMESPACE();

#endif  // per target
