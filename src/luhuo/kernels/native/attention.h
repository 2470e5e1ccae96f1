// Attention of single queries over cached keys and values in fp32 or bf16.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>
#include "products.h"
#include "wide.h"

static const int64_t MOST_FEATURES = 256;  // of a head that the vector code takes

static inline float dot(const float *q, const float *k, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += q[j] * k[j];
    return sum;
}

static inline float dot(const float *q, const bf16 *k, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += q[j] * widen(k[j]);
    return sum;
}

static inline void add(float *to, float share, const float *v, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) to[j] += share * v[j];
}

static inline void add(float *to, float share, const bf16 *v, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) to[j] += share * widen(v[j]);
}

// Attention of one query over `count` cached tokens: mixed (size,).
template <typename Kept>
static void attend(const float *query, const Kept *keys, const Kept *values, int64_t stride, int64_t count,
                   int64_t size, float *shares, float *mixed) {
    float most = -INFINITY, total = 0;
    for (int64_t s = 0; s < count; s++) {
        shares[s] = dot(query, keys + s * stride, size);
        most = shares[s] > most ? shares[s] : most;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t s = 0; s < count; s++) {
        shares[s] = exponential(shares[s] - most);
        total += shares[s];
    }
    std::memset(mixed, 0, size * sizeof(float));
    for (int64_t s = 0; s < count; s++) add(mixed, shares[s], values + s * stride, size);
    for (int64_t j = 0; j < size; j++) mixed[j] /= total;
}

#ifdef WIDE_BF16

// Attention of QUERIES queries of one key head over `count` cached tokens in bf16; queries and `mixed` are (QUERIES,
// size), size a multiple of 32, `shares` has room for QUERIES · (count rounded up to 16).
template <int QUERIES>
static void attend_wide(const float *queries, const bf16 *keys, const bf16 *values, int64_t stride, int64_t count,
                        int64_t size, float *shares, float *mixed) {
    bf16 narrowed[QUERIES * MOST_FEATURES];
    for (int64_t j = 0; j < QUERIES * size; j++) narrowed[j] = narrow(queries[j]);
    int64_t room = (count + 15) / 16 * 16;
    for (int64_t s = 0; s < count; s += 16)
        for (int q = 0; q < QUERIES; q++) {
            __m512 sums[16];
            for (int i = 0; i < 16; i++) {
                const bf16 *key = keys + (s + i < count ? s + i : count - 1) * stride;
                sums[i] = _mm512_setzero_ps();
                for (int64_t j = 0; j < size; j += 32)
                    sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)_mm512_loadu_si512(key + j),
                                               (__m512bh)_mm512_loadu_si512(narrowed + q * size + j));
            }
            _mm512_storeu_ps(shares + q * room + s, lane_sums(sums));
        }
    float total[QUERIES];
    for (int q = 0; q < QUERIES; q++) {
        float *row = shares + q * room, most = -INFINITY;
        total[q] = 0;
        for (int64_t s = 0; s < count; s++) most = row[s] > most ? row[s] : most;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t s = 0; s < count; s++) {
            row[s] = exponential(row[s] - most);
            sum += row[s];
        }
        total[q] = sum;
    }
    for (int64_t j = 0; j < size; j += 32) {
        __m512 low[QUERIES], high[QUERIES];
        for (int q = 0; q < QUERIES; q++) low[q] = high[q] = _mm512_setzero_ps();
        for (int64_t s = 0; s < count; s++) {
            __m512i both = _mm512_loadu_si512(values + s * stride + j);  // even and odd features apart
            __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
            __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000)));
            for (int q = 0; q < QUERIES; q++) {
                __m512 share = _mm512_set1_ps(shares[q * room + s]);
                low[q] = _mm512_fmadd_ps(share, even, low[q]);
                high[q] = _mm512_fmadd_ps(share, odd, high[q]);
            }
        }
        for (int q = 0; q < QUERIES; q++) {
            float evens[16], odds[16], *to = mixed + q * size + j;
            _mm512_storeu_ps(evens, _mm512_div_ps(low[q], _mm512_set1_ps(total[q])));
            _mm512_storeu_ps(odds, _mm512_div_ps(high[q], _mm512_set1_ps(total[q])));
            for (int i = 0; i < 16; i++) to[2 * i] = evens[i], to[2 * i + 1] = odds[i];
        }
    }
}

#endif

// `group` queries of one key head, (group, size) and contiguous; keys and values are `stride` numbers apart.
static void attend_all(int64_t number, const void *key, const void *value, int64_t stride, int64_t count,
                       int64_t group, int64_t size, const float *queries, std::vector<float> &shares, float *mixed) {
    int64_t head = 0;
    shares.resize(4 * ((count + 15) / 16 * 16));
    if (number == FLOAT) {
        const float *keys = (const float *)key, *values = (const float *)value;
        for (; head < group; head++)
            attend(queries + head * size, keys, values, stride, count, size, shares.data(), mixed + head * size);
        return;
    }
    const bf16 *keys = (const bf16 *)key, *values = (const bf16 *)value;
#ifdef WIDE_BF16
    if (size % 32 == 0 && size <= MOST_FEATURES) {
        for (; head < group;) {
            const float *query = queries + head * size;
            float *to = mixed + head * size, *room = shares.data();
            int64_t left = group - head;
            if (left >= 4) attend_wide<4>(query, keys, values, stride, count, size, room, to), head += 4;
            else if (left == 3) attend_wide<3>(query, keys, values, stride, count, size, room, to), head += 3;
            else if (left == 2) attend_wide<2>(query, keys, values, stride, count, size, room, to), head += 2;
            else attend_wide<1>(query, keys, values, stride, count, size, room, to), head += 1;
        }
        return;
    }
#endif
    for (; head < group; head++)
        attend(queries + head * size, keys, values, stride, count, size, shares.data(), mixed + head * size);
}
