// Products of activations rounded to 8 bits with weights of 8 bits: sums of integers are exact, and are scaled once.
//
// Activations are kept as 0 … 255, because the processor's instruction multiplies unsigned with signed bytes; what the
// 128 add is known from the sum of each row of weights. The order of the scaling is that of eight_bit.py, so that both
// give the same bits.
#include <cmath>
#include "products.h"
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include <immintrin.h>
#define WIDE_BYTES 1
#endif

static const float SMALLEST = 1e-30f;  // largest magnitude of a row of zeros, as far as its scale is concerned

void round_activations(const Matrix &m, Activations &x) {
    int64_t columns = m.columns;
    bool all = std::isinf(m.threshold);
    x.bytes.resize(x.count * columns);
    x.scales.resize(x.count);
    x.places.clear();
    x.apart.clear();
    x.starts.assign(1, 0);
    for (int64_t i = 0; i < x.count; i++) {
        float *row = x.wide.data() + i * columns, threshold = (float)m.threshold;
        for (int64_t j = 0; j < columns && !all; j++)
            if (std::fabs(row[j]) > threshold) {
                x.places.push_back(j);
                x.apart.push_back(row[j]);
                row[j] = 0;
            }
        x.starts.push_back((int64_t)x.places.size());
        float most = SMALLEST;
#pragma omp simd reduction(max : most)
        for (int64_t j = 0; j < columns; j++) most = std::fabs(row[j]) > most ? std::fabs(row[j]) : most;
        float scale = m.input_scale ? *m.input_scale : most / 127.0f;
        uint8_t *to = x.bytes.data() + i * columns;
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) {
            float q = std::rint(row[j] / scale);
            q = q > 127.0f ? 127.0f : q < -128.0f ? -128.0f : q;
            to[j] = (uint8_t)((int32_t)q + 128);
        }
        x.scales[i] = scale;
    }
}

#ifdef WIDE_BYTES

// sums (TOKENS, ROWS) of rows from `row` on.
template <int TOKENS, int ROWS>
static void byte_rows(const Matrix &m, const uint8_t *x, int64_t row, int32_t *sums) {
    int64_t columns = m.columns, whole = columns & ~(int64_t)63;
    const int8_t *weight = (const int8_t *)m.weight + row * columns;
    __m512i sum[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TOKENS; t++) sum[r][t] = _mm512_setzero_si512();
    for (int64_t k = 0; k < whole; k += 64) {
        __m512i v[TOKENS];
        for (int t = 0; t < TOKENS; t++) v[t] = _mm512_loadu_si512(x + t * columns + k);
        for (int r = 0; r < ROWS; r++) {
            const int8_t *from = weight + r * columns + k;
            _mm_prefetch((const char *)(from + ROWS * columns), _MM_HINT_T0);
            __m512i w = _mm512_loadu_si512(from);
            for (int t = 0; t < TOKENS; t++) sum[r][t] = _mm512_dpbusd_epi32(sum[r][t], v[t], w);
        }
    }
    if (whole < columns) {
        __mmask64 mask = ((__mmask64)1 << (columns - whole)) - 1;
        for (int t = 0; t < TOKENS; t++) {
            __m512i v = _mm512_maskz_loadu_epi8(mask, x + t * columns + whole);
            for (int r = 0; r < ROWS; r++) {
                __m512i w = _mm512_maskz_loadu_epi8(mask, weight + r * columns + whole);
                sum[r][t] = _mm512_dpbusd_epi32(sum[r][t], v, w);
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TOKENS; t++)
            sums[t * ROWS + r] = _mm512_reduce_add_epi32(sum[r][t]) - 128 * m.sums[row + r];
}

#else

template <int TOKENS, int ROWS>
static void byte_rows(const Matrix &m, const uint8_t *x, int64_t row, int32_t *sums) {
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TOKENS; t++) {
            const int8_t *weight = (const int8_t *)m.weight + (row + r) * m.columns;
            const uint8_t *from = x + t * m.columns;
            int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < m.columns; k++) sum += (int32_t)from[k] * weight[k];
            sums[t * ROWS + r] = sum - 128 * m.sums[row + r];
        }
}

#endif

template <int TOKENS, int ROWS>
static void scaled_rows(const Matrix &m, const Activations &x, int64_t token, int64_t row, float *y, int64_t stride) {
    int32_t sums[TOKENS * ROWS];
    byte_rows<TOKENS, ROWS>(m, x.bytes.data() + token * m.columns, row, sums);
    for (int t = 0; t < TOKENS; t++)
        for (int r = 0; r < ROWS; r++) {
            float scale = ((const float *)m.scale)[row + r];
            float found = (float)sums[t * ROWS + r] * x.scales[token + t] * scale;
            int64_t begin = x.starts[token + t], end = x.starts[token + t + 1];
            if (begin < end) {
                const int8_t *weight = (const int8_t *)m.weight + (row + r) * m.columns;
                double rest = 0;
                for (int64_t j = begin; j < end; j++) rest += (double)x.apart[j] * weight[x.places[j]];
                found += (float)rest * scale;
            }
            y[(token + t) * stride + row + r] = found;
        }
}

template <int TOKENS>
static void all_rows(const Matrix &m, const Activations &x, int64_t token, int64_t first, int64_t last, float *y,
                     int64_t stride) {
    constexpr int TOGETHER = TOKENS == 1 ? 1 : 4;  // one token reads rows one after the other: twice as fast on a Zen 4
    int64_t row = first;
    for (; row + TOGETHER <= last; row += TOGETHER) scaled_rows<TOKENS, TOGETHER>(m, x, token, row, y, stride);
    for (; row < last; row++) scaled_rows<TOKENS, 1>(m, x, token, row, y, stride);
}

void rounded_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row += UNIT) {  // rows that stay in the nearest cache for all tokens
        int64_t end = row + UNIT < last ? row + UNIT : last;
        for (int64_t t = 0; t < x.count;) {
            int64_t left = x.count - t;
            if (left >= 4) all_rows<4>(m, x, t, row, end, y, stride), t += 4;
            else if (left >= 2) all_rows<2>(m, x, t, row, end, y, stride), t += 2;
            else all_rows<1>(m, x, t, row, end, y, stride), t += 1;
        }
    }
}
