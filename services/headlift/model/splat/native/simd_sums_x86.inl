// Sums of ten vectors, each folded to eight lanes, by one tree of horizontal additions. Included inside a namespace.
struct Sums {
  __m256 low;   // of vectors 0..7
  __m128 high;  // of vectors 8, 9, then zeros
};

HL_INLINE Sums sums(const F (&a)[10]) {
  const __m256 v0123 = _mm256_hadd_ps(_mm256_hadd_ps(fold(a[0]), fold(a[1])), _mm256_hadd_ps(fold(a[2]), fold(a[3])));
  const __m256 v4567 = _mm256_hadd_ps(_mm256_hadd_ps(fold(a[4]), fold(a[5])), _mm256_hadd_ps(fold(a[6]), fold(a[7])));
  const __m256 v89 = _mm256_hadd_ps(_mm256_hadd_ps(fold(a[8]), fold(a[9])), _mm256_setzero_ps());
  const __m256 low = _mm256_add_ps(_mm256_permute2f128_ps(v0123, v4567, 0x20), _mm256_permute2f128_ps(v0123, v4567, 0x31));
  return {low, _mm_add_ps(_mm256_castps256_ps128(v89), _mm256_extractf128_ps(v89, 1))};
}
