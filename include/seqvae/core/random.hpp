/// \file  Counter-based noise: the same bits on the host and on the device, whatever the launch.
///
/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), the generator of cuRAND's device API.
///     key     = (seed low, seed high)
///     counter = (t * ceil(D / 4) + d / 4,  sequence id,  step,  site << 24 | particle)
/// A draw for component d of a row is word d % 4 of that call: it follows what it is for, and
/// neither launch shape, nor place in the batch, nor the number of threads.
///
/// Normals by Box-Muller with polynomials of our own (log on [sqrt(1/2), sqrt(2)), sin and cos
/// of a quarter turn): cuRAND's normals use other functions on the device than on the host. Each
/// multiply-add is an explicit fma, so that no compiler may round otherwise.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "seqvae/core/host_device.hpp"

namespace seqvae {

/// What a draw is for: `site` numbers the places of a model that draw (below 256).
struct NoiseKey {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
};

/// Four 32-bit words: a Philox counter, or what it yields.
struct Words {
  std::uint32_t w[4];
};

/// Philox 4x32-10: four random words of a 128-bit counter and a 64-bit key.
SEQVAE_HOST_DEVICE inline Words philox(Words counter, std::uint64_t key) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  Words c = counter;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.w[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c.w[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.w[1] ^ k0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.w[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// The counter of components 4 * quad .. 4 * quad + 3 of a row of width D.
SEQVAE_HOST_DEVICE inline Words noise_counter(std::uint32_t site, std::uint64_t step,
                                              std::uint32_t sequence_id, std::uint32_t particle,
                                              std::int64_t t, std::int64_t D, std::int64_t quad) {
  return {{static_cast<std::uint32_t>(t * ((D + 3) / 4) + quad), sequence_id,
           static_cast<std::uint32_t>(step), site << 24 | particle}};
}

/// Uniform in (0, 1): (word + 1/2) / 2^32, rounded to float; never 0.
SEQVAE_HOST_DEVICE inline float uniform(std::uint32_t word) {
  return fmaf(static_cast<float>(word), 0x1p-32f, 0x1p-33f);
}

/// Natural logarithm of u in [2^-33, 1], within 1.5 ulp.
SEQVAE_HOST_DEVICE inline float log_unit(float u) {
  std::uint32_t bits;
  memcpy(&bits, &u, sizeof bits);
  // u = m 2^e with m in [sqrt(1/2), sqrt(2)): 0x3F3504F3 is sqrt(1/2).
  const std::uint32_t shifted = bits - 0x3F3504F3u;
  const float e = static_cast<float>(static_cast<std::int32_t>(shifted) >> 23);
  bits = (shifted & 0x007FFFFFu) + 0x3F3504F3u;
  float m;
  memcpy(&m, &bits, sizeof m);
  const float f = m - 1.0f;
  // log(1 + f) = f - f^2 / 2 + f^3 P(f); coefficients of Cephes' logf (Moshier).
  float p = 7.0376836292e-2f;
  p = fmaf(p, f, -1.1514610310e-1f);
  p = fmaf(p, f, 1.1676998740e-1f);
  p = fmaf(p, f, -1.2420140846e-1f);
  p = fmaf(p, f, 1.4249322787e-1f);
  p = fmaf(p, f, -1.6668057665e-1f);
  p = fmaf(p, f, 2.0000714765e-1f);
  p = fmaf(p, f, -2.4999993993e-1f);
  p = fmaf(p, f, 3.3333331174e-1f);
  const float f2 = f * f;
  float r = fmaf(e, -2.12194440e-4f, f * f2 * p);
  r = fmaf(-0.5f, f2, r);
  return fmaf(e, 0.693359375f, f + r);
}

/// Two independent standard normals of two random words (Box and Muller, 1958).
SEQVAE_HOST_DEVICE inline void normal_pair(std::uint32_t a, std::uint32_t b, float& first,
                                           float& second) {
  const float radius = sqrtf(-2.0f * log_unit(uniform(a)));
  // b / 2^32 of a turn = (quarter + x) / 4 turns with x in [-1/2, 1/2].
  const std::uint32_t quarter = (b + 0x20000000u) >> 30;
  const float x = static_cast<float>(static_cast<std::int32_t>(b - (quarter << 30))) * 0x1p-30f;
  const float y = x * x;
  // sin(pi x / 2) / x and cos(pi x / 2) as minimax polynomials in x^2, errors below 5e-11.
  float s = 0x1.4bc85cp-13f;
  s = fmaf(s, y, -0x1.32ca9ep-8f);
  s = fmaf(s, y, 0x1.466bbap-4f);
  s = fmaf(s, y, -0x1.4abbcep-1f);
  s = fmaf(s, y, 0x1.921fb6p+0f) * x;
  float c = 0x1.d9c2e8p-11f;
  c = fmaf(c, y, -0x1.55c57ap-6f);
  c = fmaf(c, y, 0x1.03c1dcp-2f);
  c = fmaf(c, y, -0x1.3bd3ccp+0f);
  c = fmaf(c, y, 1.0f);
  const bool odd = (quarter & 1u) != 0;
  const float cosine = odd ? s : c, sine = odd ? c : s;
  // Quarters 1 and 2 have a negative cosine, 2 and 3 a negative sine.
  first = radius * (((quarter + 1u) & 2u) != 0 ? -cosine : cosine);
  second = radius * ((quarter & 2u) != 0 ? -sine : sine);
}

/// Component d % 4 of the four normals of one counter.
SEQVAE_HOST_DEVICE inline float normal(Words random, int component) {
  float first, second;
  normal_pair(random.w[component & 2], random.w[(component & 2) + 1], first, second);
  return (component & 1) != 0 ? second : first;
}

}  // namespace seqvae
