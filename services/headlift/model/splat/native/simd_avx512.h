// Sixteen floats in one AVX-512 register. The same names exist in simd_avx2.h and simd_portable.h.
#pragma once
#include <immintrin.h>

namespace {

struct F {
  __m512 v;
};
struct M {
  __mmask16 v;
};

HL_INLINE F bc(float x) { return {_mm512_set1_ps(x)}; }
HL_INLINE F load(const float* p) { return {_mm512_loadu_ps(p)}; }
HL_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
// Elements p[0], p[stride], ...; lanes from `lanes` on repeat the last one.
HL_INLINE F gather(const float* p, int stride, int lanes) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i at = _mm512_mullo_epi32(_mm512_min_epi32(lane, _mm512_set1_epi32(lanes - 1)), _mm512_set1_epi32(stride));
  return {_mm512_i32gather_ps(at, p, 4)};
}
HL_INLINE F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
HL_INLINE F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
HL_INLINE F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
HL_INLINE F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
HL_INLINE F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
HL_INLINE F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
HL_INLINE F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
HL_INLINE F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
HL_INLINE F abs(F a) { return {_mm512_abs_ps(a.v)}; }
HL_INLINE F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
HL_INLINE F recip(F a) {  // one Newton step: relative error below 1e-7
  const __m512 r = _mm512_rcp14_ps(a.v);
  return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f)))};
}
HL_INLINE M operator>=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
HL_INLINE M operator>(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
HL_INLINE M operator!=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
HL_INLINE M operator&(M a, M b) { return {static_cast<__mmask16>(a.v & b.v)}; }
HL_INLINE M operator|(M a, M b) { return {static_cast<__mmask16>(a.v | b.v)}; }
HL_INLINE M andnot(M a, M b) { return {static_cast<__mmask16>(a.v & ~b.v)}; }  // a and not b
HL_INLINE bool any(M m) { return m.v != 0; }
HL_INLINE unsigned bits(M m) { return m.v; }
HL_INLINE F select(M m, F a, F b) { return {_mm512_mask_mov_ps(b.v, m.v, a.v)}; }
HL_INLINE F keep(M m, F a) { return {_mm512_maskz_mov_ps(m.v, a.v)}; }
HL_INLINE F nearest(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
HL_INLINE F scale_by_power(F a, F n) { return {_mm512_scalef_ps(a.v, n.v)}; }  // a 2^n
// Mantissa in [1, 2) and exponent of a positive normal number.
HL_INLINE F split(F a, F& exponent) {
  exponent = {_mm512_getexp_ps(a.v)};
  return {_mm512_getmant_ps(a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src)};
}

HL_INLINE __m256 fold(F a) {
  return _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
}
#include "simd_sums_x86.inl"
// Writes the ten vectors' sums to a line of sixteen, zeros behind them.
HL_INLINE void store_sums(float* line, const F (&a)[10]) {
  const Sums s = sums(a);
  _mm512_store_ps(line, _mm512_insertf32x8(_mm512_castps256_ps512(s.low), _mm256_zextps128_ps256(s.high), 1));
}

}  // namespace
