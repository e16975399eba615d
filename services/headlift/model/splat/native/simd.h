// Vectors F of sixteen floats and masks M of sixteen lanes for the instruction set this file is compiled for, with the
// two transcendental functions that splatting needs.
#pragma once

#define HL_MEMBER inline __attribute__((always_inline))
#define HL_INLINE static HL_MEMBER

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define HL_KERNELS kAvx512Kernels
#define HL_KERNELS_NAME "avx512"
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#define HL_KERNELS kAvx2Kernels
#define HL_KERNELS_NAME "avx2"
#include "simd_avx2.h"
#else
#define HL_KERNELS kPortableKernels
#if defined(__aarch64__)
#define HL_KERNELS_NAME "neon"
#else
#define HL_KERNELS_NAME "portable"
#endif
#include "simd_portable.h"
#endif

namespace {

// 2^x for x <= 126, relative error below 3e-7. Coefficients: least maximal relative error on [-1/2, 1/2].
HL_INLINE F exp2(F x) {
  const F n = nearest(x), f = x - n;
  F y = bc(1.3264727080e-3f);
  y = fma(y, f, bc(9.6715128622e-3f));
  y = fma(y, f, bc(5.5507337456e-2f));
  y = fma(y, f, bc(2.4022242082e-1f));
  y = fma(y, f, bc(6.9314697760e-1f));
  y = fma(y, f, bc(1.0f));
  return scale_by_power(y, n);
}

// log2 of a positive normal number: the area tangent's series on [2/3, 4/3], absolute error below 2e-7.
HL_INLINE F log2(F x) {
  F n;
  F m = split(x, n);
  const M high = m > bc(4.0f / 3.0f);
  m = select(high, m * bc(0.5f), m);
  n = select(high, n + bc(1.0f), n);
  const F t = (m - bc(1.0f)) / (m + bc(1.0f)), t2 = t * t;
  F y = bc(1.0f / 11.0f);
  y = fma(y, t2, bc(1.0f / 9.0f));
  y = fma(y, t2, bc(1.0f / 7.0f));
  y = fma(y, t2, bc(1.0f / 5.0f));
  y = fma(y, t2, bc(1.0f / 3.0f));
  y = fma(y, t2, bc(1.0f));
  return fma(t * bc(2.885390081777927f), y, n);
}

}  // namespace
