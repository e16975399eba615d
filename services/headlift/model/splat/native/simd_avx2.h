// Sixteen floats in two AVX registers; see simd_avx512.h for what the names mean.
#pragma once
#include <immintrin.h>

namespace {

struct F {
  __m256 a, b;
};
struct M {
  __m256 a, b;
};

HL_INLINE F bc(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HL_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
HL_INLINE void store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
HL_INLINE F gather(const float* p, int stride, int lanes) {
  const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), last = _mm256_set1_epi32(lanes - 1);
  const __m256i step = _mm256_set1_epi32(stride), second = _mm256_add_epi32(first, _mm256_set1_epi32(8));
  return {_mm256_i32gather_ps(p, _mm256_mullo_epi32(_mm256_min_epi32(first, last), step), 4),
          _mm256_i32gather_ps(p, _mm256_mullo_epi32(_mm256_min_epi32(second, last), step), 4)};
}
HL_INLINE F operator+(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
HL_INLINE F operator-(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
HL_INLINE F operator*(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
HL_INLINE F operator/(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
HL_INLINE F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
HL_INLINE F fnma(F x, F y, F z) { return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
HL_INLINE F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
HL_INLINE F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
HL_INLINE F abs(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
HL_INLINE F sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
HL_INLINE F recip(F x) { return bc(1.0f) / x; }
HL_INLINE M operator>=(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)}; }
HL_INLINE M operator>(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)}; }
HL_INLINE M operator!=(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_NEQ_UQ), _mm256_cmp_ps(x.b, y.b, _CMP_NEQ_UQ)}; }
HL_INLINE M operator&(M x, M y) { return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)}; }
HL_INLINE M operator|(M x, M y) { return {_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)}; }
HL_INLINE M andnot(M x, M y) { return {_mm256_andnot_ps(y.a, x.a), _mm256_andnot_ps(y.b, x.b)}; }
HL_INLINE unsigned bits(M m) {
  return static_cast<unsigned>(_mm256_movemask_ps(m.a)) | static_cast<unsigned>(_mm256_movemask_ps(m.b)) << 8;
}
HL_INLINE bool any(M m) { return _mm256_movemask_ps(_mm256_or_ps(m.a, m.b)) != 0; }
HL_INLINE F select(M m, F x, F y) { return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)}; }
HL_INLINE F keep(M m, F x) { return {_mm256_and_ps(m.a, x.a), _mm256_and_ps(m.b, x.b)}; }
HL_INLINE F nearest(F x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
HL_INLINE __m256 power(__m256 n) {  // 2^n for whole n; below the normal range zero
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_max_ps(n, _mm256_set1_ps(-127.0f))), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
HL_INLINE F scale_by_power(F x, F n) { return {_mm256_mul_ps(x.a, power(n.a)), _mm256_mul_ps(x.b, power(n.b))}; }
HL_INLINE __m256 split(__m256 x, __m256& exponent) {
  const __m256i bits = _mm256_castps_si256(x);
  exponent = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127)));
  const __m256i mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x007fffff));
  return _mm256_castsi256_ps(_mm256_or_si256(mantissa, _mm256_set1_epi32(0x3f800000)));
}
HL_INLINE F split(F x, F& exponent) { return {split(x.a, exponent.a), split(x.b, exponent.b)}; }

HL_INLINE __m256 fold(F x) { return _mm256_add_ps(x.a, x.b); }
#include "simd_sums_x86.inl"
HL_INLINE void store_sums(float* line, const F (&a)[10]) {
  const Sums s = sums(a);
  _mm256_store_ps(line, s.low);
  _mm256_store_ps(line + 8, _mm256_zextps128_ps256(s.high));
}

}  // namespace
