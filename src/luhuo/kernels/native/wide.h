// What processors with AVX512 have: WIDE says whether this one does, WIDE_BF16 whether it has products of bf16 numbers and
// permutations of bytes as well.
#pragma once
#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDE 1
#if defined(__AVX512BW__) && defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#define WIDE_BF16 1
#endif

// Lane i of the result is the sum of the lanes of v[i], sixteen at once: three instructions each instead of eight. The
// order of the sum is the same for every i.
static inline __m512 lane_sums(const __m512 *v) {
    __m512 four[4];
    for (int i = 0; i < 4; i++) {
        __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[4 * i], v[4 * i + 1]), _mm512_unpackhi_ps(v[4 * i], v[4 * i + 1]));
        __m512 cd =
            _mm512_add_ps(_mm512_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]), _mm512_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]));
        __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
        four[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(four[0], four[1], 0x88), _mm512_shuffle_f32x4(four[0], four[1], 0xdd));
    __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(four[2], four[3], 0x88), _mm512_shuffle_f32x4(four[2], four[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}
#endif
