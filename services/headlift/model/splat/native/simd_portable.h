// Sixteen floats in four 128-bit vectors of the compiler's own vector extension: NEON on ARM, SSE2 on old x86, scalars
// elsewhere. See simd_avx512.h for what the names mean.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

typedef float V4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

struct F {
  V4 v[4];
};
struct M {
  I4 v[4];
};

HL_INLINE V4 bits_to_floats(I4 x) {
  V4 y;
  memcpy(&y, &x, sizeof y);
  return y;
}
HL_INLINE I4 floats_to_bits(V4 x) {
  I4 y;
  memcpy(&y, &x, sizeof y);
  return y;
}
#define HL_EACH(type, expr)               \
  type out;                               \
  for (int i = 0; i < 4; ++i) out.v[i] = (expr); \
  return out

HL_INLINE F bc(float x) { HL_EACH(F, (V4{x, x, x, x})); }
HL_INLINE F load(const float* p) {
  F out;
  memcpy(out.v, p, sizeof out.v);
  return out;
}
HL_INLINE void store(float* p, F a) { memcpy(p, a.v, sizeof a.v); }
HL_INLINE F gather(const float* p, int stride, int lanes) {
  float out[16];
  for (int i = 0; i < 16; ++i) out[i] = p[(i < lanes ? i : lanes - 1) * stride];
  return load(out);
}
HL_INLINE F operator+(F a, F b) { HL_EACH(F, a.v[i] + b.v[i]); }
HL_INLINE F operator-(F a, F b) { HL_EACH(F, a.v[i] - b.v[i]); }
HL_INLINE F operator*(F a, F b) { HL_EACH(F, a.v[i] * b.v[i]); }
HL_INLINE F operator/(F a, F b) { HL_EACH(F, a.v[i] / b.v[i]); }
#if defined(__aarch64__)
HL_INLINE F fma(F a, F b, F c) { HL_EACH(F, (V4)vfmaq_f32((float32x4_t)c.v[i], (float32x4_t)a.v[i], (float32x4_t)b.v[i])); }
HL_INLINE F fnma(F a, F b, F c) { HL_EACH(F, (V4)vfmsq_f32((float32x4_t)c.v[i], (float32x4_t)a.v[i], (float32x4_t)b.v[i])); }
#else
HL_INLINE F fma(F a, F b, F c) { HL_EACH(F, a.v[i] * b.v[i] + c.v[i]); }
HL_INLINE F fnma(F a, F b, F c) { HL_EACH(F, c.v[i] - a.v[i] * b.v[i]); }
#endif
HL_INLINE V4 pick(I4 m, V4 a, V4 b) { return bits_to_floats((m & floats_to_bits(a)) | (~m & floats_to_bits(b))); }
HL_INLINE F min(F a, F b) { HL_EACH(F, pick(I4(a.v[i] < b.v[i]), a.v[i], b.v[i])); }
HL_INLINE F max(F a, F b) { HL_EACH(F, pick(I4(a.v[i] > b.v[i]), a.v[i], b.v[i])); }
HL_INLINE F abs(F a) { HL_EACH(F, bits_to_floats(floats_to_bits(a.v[i]) & 0x7fffffff)); }
HL_INLINE F sqrt(F a) {
  float out[16];
  store(out, a);
  for (float& x : out) x = __builtin_sqrtf(x);
  return load(out);
}
HL_INLINE F recip(F a) { return bc(1.0f) / a; }
HL_INLINE M operator>=(F a, F b) { HL_EACH(M, I4(a.v[i] >= b.v[i])); }
HL_INLINE M operator>(F a, F b) { HL_EACH(M, I4(a.v[i] > b.v[i])); }
HL_INLINE M operator!=(F a, F b) { HL_EACH(M, I4(a.v[i] != b.v[i])); }
HL_INLINE M operator&(M a, M b) { HL_EACH(M, a.v[i] & b.v[i]); }
HL_INLINE M operator|(M a, M b) { HL_EACH(M, a.v[i] | b.v[i]); }
HL_INLINE M andnot(M a, M b) { HL_EACH(M, a.v[i] & ~b.v[i]); }
HL_INLINE bool any(M m) {
  const I4 all = (m.v[0] | m.v[1]) | (m.v[2] | m.v[3]);
  int64_t half[2];
  memcpy(half, &all, sizeof half);
  return (half[0] | half[1]) != 0;
}
HL_INLINE unsigned bits(M m) {
  unsigned out = 0;
  for (int i = 0; i < 16; ++i) out |= static_cast<unsigned>(m.v[i / 4][i % 4] & 1) << i;
  return out;
}
HL_INLINE F select(M m, F a, F b) { HL_EACH(F, pick(m.v[i], a.v[i], b.v[i])); }
HL_INLINE F keep(M m, F a) { HL_EACH(F, bits_to_floats(m.v[i] & floats_to_bits(a.v[i]))); }
HL_INLINE F nearest(F a) {
  const V4 magic = {12582912.0f, 12582912.0f, 12582912.0f, 12582912.0f};  // 1.5 * 2^23: adding it drops the fraction
  HL_EACH(F, (a.v[i] + magic) - magic);
}
HL_INLINE F scale_by_power(F a, F n) {
  const F whole = max(n, bc(-127.0f));
  HL_EACH(F, a.v[i] * bits_to_floats((__builtin_convertvector(whole.v[i], I4) + 127) << 23));
}
HL_INLINE F split(F a, F& exponent) {
  for (int i = 0; i < 4; ++i) exponent.v[i] = __builtin_convertvector((floats_to_bits(a.v[i]) >> 23) - 127, V4);
  HL_EACH(F, bits_to_floats((floats_to_bits(a.v[i]) & 0x007fffff) | 0x3f800000));
}
HL_INLINE void store_sums(float* line, const F (&a)[10]) {
  for (int k = 10; k < 16; ++k) line[k] = 0.0f;
  for (int k = 0; k < 10; ++k) {
    const V4 s = (a[k].v[0] + a[k].v[1]) + (a[k].v[2] + a[k].v[3]);
    line[k] = (s[0] + s[1]) + (s[2] + s[3]);
  }
}
#undef HL_EACH

}  // namespace
