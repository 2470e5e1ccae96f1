// Products of a few rows with matrices in bf16 and fp32, which lie as they are.
#include "products.h"
#include "wide.h"

#ifdef WIDE_BF16

// y (tokens, ROWS) of rows from `row` on.
template <int TOKENS, int ROWS>
static void brain_rows(const Matrix &m, const bf16 *x, int64_t row, float *y, int64_t stride) {
    int64_t columns = m.columns, whole = columns & ~(int64_t)31;
    const bf16 *weight = (const bf16 *)m.weight + row * columns;
    __m512 sum[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TOKENS; t++) sum[r][t] = _mm512_setzero_ps();
    for (int64_t k = 0; k < whole; k += 32) {
        __m512bh v[TOKENS];
        for (int t = 0; t < TOKENS; t++) v[t] = (__m512bh)_mm512_loadu_si512(x + t * columns + k);
        for (int r = 0; r < ROWS; r++) {
            const bf16 *from = weight + r * columns + k;
            _mm_prefetch((const char *)(from + ROWS * columns), _MM_HINT_T0);
            __m512bh w = (__m512bh)_mm512_loadu_si512(from);
            for (int t = 0; t < TOKENS; t++) sum[r][t] = _mm512_dpbf16_ps(sum[r][t], w, v[t]);
        }
    }
    if (whole < columns) {
        __mmask32 mask = (__mmask32)((1u << (columns - whole)) - 1);
        for (int t = 0; t < TOKENS; t++) {
            __m512bh v = (__m512bh)_mm512_maskz_loadu_epi16(mask, x + t * columns + whole);
            for (int r = 0; r < ROWS; r++) {
                __m512bh w = (__m512bh)_mm512_maskz_loadu_epi16(mask, weight + r * columns + whole);
                sum[r][t] = _mm512_dpbf16_ps(sum[r][t], w, v);
            }
        }
    }
    if constexpr (TOKENS == 4 && ROWS == 4) {
        __m512 by_token[16];
        for (int t = 0; t < 4; t++)
            for (int r = 0; r < 4; r++) by_token[4 * t + r] = sum[r][t];
        __m512 sums = lane_sums(by_token);
        _mm_storeu_ps(y + row, _mm512_extractf32x4_ps(sums, 0));
        _mm_storeu_ps(y + stride + row, _mm512_extractf32x4_ps(sums, 1));
        _mm_storeu_ps(y + 2 * stride + row, _mm512_extractf32x4_ps(sums, 2));
        _mm_storeu_ps(y + 3 * stride + row, _mm512_extractf32x4_ps(sums, 3));
        return;
    }
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TOKENS; t++) y[t * stride + row + r] = _mm512_reduce_add_ps(sum[r][t]);
}

// One token: rows one after the other, each read from its beginning to its end. Eight at a time kept eight streams open
// and reached two thirds of this bandwidth on a Zen 4; so do four loads in the loop instead of two, which the processor
// takes for four streams (docs/diary.md).
static void brain_rows_of_one(const Matrix &m, const bf16 *x, int64_t begin, int64_t end, float *y) {
    int64_t columns = m.columns, whole = columns & ~(int64_t)31;
    __mmask32 rest = (__mmask32)((1ull << (columns - whole)) - 1);
    __m512 sums[UNIT];
    for (int64_t r = 0; r < UNIT; r++) {
        __m512 part[4];
        for (int i = 0; i < 4; i++) part[i] = _mm512_setzero_ps();
        if (begin + r < end) {
            const bf16 *from = (const bf16 *)m.weight + (begin + r) * columns;
            int64_t k = 0;
#pragma GCC unroll 1
            for (; k + 64 <= whole; k += 64)
                for (int i = 0; i < 2; i++)
                    part[i] = _mm512_dpbf16_ps(part[i], (__m512bh)_mm512_loadu_si512(from + k + 32 * i),
                                               (__m512bh)_mm512_loadu_si512(x + k + 32 * i));
            if (k < whole)
                part[2] = _mm512_dpbf16_ps(part[2], (__m512bh)_mm512_loadu_si512(from + k),
                                           (__m512bh)_mm512_loadu_si512(x + k));
            if (rest)
                part[3] = _mm512_dpbf16_ps(part[3], (__m512bh)_mm512_maskz_loadu_epi16(rest, from + whole),
                                           (__m512bh)_mm512_maskz_loadu_epi16(rest, x + whole));
        }
        sums[r] = _mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3]));
    }
    __mmask16 there = (__mmask16)((1u << (end - begin)) - 1);
    _mm512_mask_storeu_ps(y + begin, there, lane_sums(sums));
}

template <int TOKENS, int ROWS>
static void brain_unit(const Matrix &m, const bf16 *x, int64_t begin, int64_t end, float *y, int64_t stride) {
    int64_t row = begin;
    for (; row + ROWS <= end; row += ROWS) brain_rows<TOKENS, ROWS>(m, x, row, y, stride);
    for (; row < end; row++) brain_rows<TOKENS, 1>(m, x, row, y, stride);
}

void brain_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    int64_t together = m.columns > 768 && x.count > 4 ? 4 : UNIT;  // rows that stay in the nearest cache for all tokens
    for (int64_t row = first; row < last; row += together) {
        int64_t end = row + together < last ? row + together : last;
        for (int64_t t = 0; t < x.count;) {
            const bf16 *from = x.narrow.data() + t * m.columns;
            float *to = y + t * stride;
            int64_t left = x.count - t;
            if (left >= 4) brain_unit<4, 4>(m, from, row, end, to, stride), t += 4;
            else if (left >= 2) brain_unit<2, 4>(m, from, row, end, to, stride), t += 2;
            else brain_rows_of_one(m, from, row, end, to), t += 1;
        }
    }
}

#else

void brain_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        for (int64_t t = 0; t < x.count; t++) {
            const bf16 *weight = (const bf16 *)m.weight + row * m.columns, *from = x.narrow.data() + t * m.columns;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < m.columns; j++) sum += widen(weight[j]) * widen(from[j]);
            y[t * stride + row] = sum;
        }
}

#endif

void float_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        for (int64_t t = 0; t < x.count; t++) {
            const float *weight = (const float *)m.weight + row * m.columns, *from = x.wide.data() + t * m.columns;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < m.columns; j++) sum += weight[j] * from[j];
            y[t * stride + row] = sum;
        }
}
