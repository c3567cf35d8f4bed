// Which instruction sets the float twins are compiled for. Included ahead of foreach_target.h.
// AVX-512 and AVX2 (with fma) on x86, NEON on ARM; a CPU with no fma of its own runs the plain
// loops, so that no product is rounded where a fused one is meant.
#pragma once
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
