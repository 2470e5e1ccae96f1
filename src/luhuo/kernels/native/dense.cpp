// Products of a few rows with matrices in bf16 and fp32, which lie as they are.
#include "products.h"
#include "wide.h"

#ifdef WIDE

// Each product of a row with a row of activations is one sum a lane, whose lanes are summed in one order, however many
// rows of activations there are: a token's logits do not depend on its company.

// fp32, sixteen columns at a time.
struct Full {
    typedef float Number;
    typedef __m512 Vector;
    static const int64_t LANES = 16;
    static const int LOADS = 1;
    static __m512 load(const float *from) { return _mm512_loadu_ps(from); }
    static __m512 load(const float *from, int64_t count) {
        return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
    }
    static __m512 add(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

#ifdef WIDE_BF16

// bf16, thirty-two columns at a time; LOADS of weights in the loop for one token.
struct Brain {
    typedef bf16 Number;
    typedef __m512bh Vector;
    static const int64_t LANES = 32;
    static const int LOADS = 2;
    static __m512bh load(const bf16 *from) { return (__m512bh)_mm512_loadu_si512(from); }
    static __m512bh load(const bf16 *from, int64_t count) {
        return (__m512bh)_mm512_maskz_loadu_epi16((__mmask32)((1u << count) - 1), from);
    }
    static __m512 add(__m512 sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); }
};

#endif

static const int FOUR = 4;  // tokens
static const int64_t AHEAD = 32768;  // bytes

// y (FOUR, ROWS) of rows from `row` on, ROWS four at most. Four rows are four streams, which some memories serve at half
// their rate; so the passes over four rows together fetch, as one stream, what comes AHEAD bytes later: each of them
// LINES of every four, from number `line` on.
template <typename Kind, int ROWS, int LINES>
static void rows_together(const Matrix &m, const typename Kind::Number *x, int64_t row, float *y, int64_t stride,
                          int64_t line = 0) {
    int64_t columns = m.columns, whole = columns / Kind::LANES * Kind::LANES;
    const typename Kind::Number *weight = (const typename Kind::Number *)m.weight + row * columns;
    const typename Kind::Number *later = weight + AHEAD / (int64_t)sizeof(typename Kind::Number) + Kind::LANES * line;
    __m512 sum[16];
    for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < whole; k += Kind::LANES) {
        typename Kind::Vector v[FOUR];
        for (int t = 0; t < FOUR; t++) v[t] = Kind::load(x + t * columns + k);
        for (int r = 0; r < ROWS; r++) {
            if (r < LINES) _mm_prefetch((const char *)(later + ROWS * k + Kind::LANES * r), _MM_HINT_T1);
            typename Kind::Vector w = Kind::load(weight + r * columns + k);
            for (int t = 0; t < FOUR; t++) sum[ROWS * t + r] = Kind::add(sum[ROWS * t + r], w, v[t]);
        }
    }
    if (whole < columns)
        for (int t = 0; t < FOUR; t++) {
            typename Kind::Vector v = Kind::load(x + t * columns + whole, columns - whole);
            for (int r = 0; r < ROWS; r++) {
                typename Kind::Vector w = Kind::load(weight + r * columns + whole, columns - whole);
                sum[ROWS * t + r] = Kind::add(sum[ROWS * t + r], w, v);
            }
        }
    float sums[16];
    _mm512_storeu_ps(sums, lane_sums(sum));
    for (int t = 0; t < FOUR; t++)
        for (int r = 0; r < ROWS; r++) y[t * stride + row + r] = sums[ROWS * t + r];
}

// One token or two: rows one after the other, each read from its beginning to its end. Four or eight at a time are as
// many streams, and reach half to two thirds of this bandwidth on a Zen 4; so do four loads in the loop instead of two,
// which the processor takes for four streams (docs/diary.md).
template <typename Kind, int TOKENS>
static void rows_in_turn(const Matrix &m, const typename Kind::Number *x, int64_t begin, int64_t end, float *y,
                         int64_t stride) {
    constexpr int LOADS = TOKENS == 1 ? Kind::LOADS : 1;
    constexpr int64_t LANES = Kind::LANES;
    int64_t columns = m.columns, whole = columns / LANES * LANES;
    __m512 sums[TOKENS][UNIT];
    for (int64_t r = 0; r < UNIT; r++) {
        __m512 sum[TOKENS];
        for (int t = 0; t < TOKENS; t++) sum[t] = _mm512_setzero_ps();
        if (begin + r < end) {
            const typename Kind::Number *from = (const typename Kind::Number *)m.weight + (begin + r) * columns;
            int64_t k = 0;
#pragma GCC unroll 1
            for (; k + LOADS * LANES <= whole; k += LOADS * LANES)
                for (int i = 0; i < LOADS; i++) {
                    typename Kind::Vector w = Kind::load(from + k + LANES * i);
                    for (int t = 0; t < TOKENS; t++)
                        sum[t] = Kind::add(sum[t], w, Kind::load(x + t * columns + k + LANES * i));
                }
            for (int t = 0; t < TOKENS; t++) {
                const typename Kind::Number *of = x + t * columns;
                if (k < whole) sum[t] = Kind::add(sum[t], Kind::load(from + k), Kind::load(of + k));
                if (whole < columns)
                    sum[t] = Kind::add(sum[t], Kind::load(from + whole, columns - whole),
                                       Kind::load(of + whole, columns - whole));
            }
        }
        for (int t = 0; t < TOKENS; t++) sums[t][r] = sum[t];
    }
    __mmask16 there = (__mmask16)((1u << (end - begin)) - 1);
    for (int t = 0; t < TOKENS; t++) _mm512_mask_storeu_ps(y + t * stride + begin, there, lane_sums(sums[t]));
}

template <typename Kind>
static void dense_product(const Matrix &m, const typename Kind::Number *x, int64_t count, float *y, int64_t stride,
                          int64_t first, int64_t last) {
    // rows that stay in the nearest cache for all tokens
    int64_t together = m.columns * (int64_t)sizeof(typename Kind::Number) > 1536 && count > 4 ? 4 : UNIT;
    for (int64_t begin = first; begin < last; begin += together) {
        int64_t end = begin + together < last ? begin + together : last;
        for (int64_t t = 0; t < count;) {
            // Behind the first four there are always four: computing some again takes less than fewer would.
            if (count > FOUR && count - t < FOUR) t = count - FOUR;
            const typename Kind::Number *from = x + t * m.columns;
            float *to = y + t * stride;
            int64_t left = count - t, row = begin;
            if (left >= FOUR) {
                int64_t pass = (t + FOUR - 1) / FOUR, lines = count <= FOUR ? 4 : count <= 3 * FOUR ? 2 : 1;
                for (; row + 4 <= end; row += 4)
                    if (lines == 4)
                        rows_together<Kind, 4, 4>(m, from, row, to, stride);
                    else if (pass * lines >= 4)
                        rows_together<Kind, 4, 0>(m, from, row, to, stride);
                    else if (lines == 2)
                        rows_together<Kind, 4, 2>(m, from, row, to, stride, 2 * pass);
                    else
                        rows_together<Kind, 4, 1>(m, from, row, to, stride, pass);
                for (; row < end; row++) rows_together<Kind, 1, 0>(m, from, row, to, stride);
                t += FOUR;
            } else if (left >= 2) {
                rows_in_turn<Kind, 2>(m, from, begin, end, to, stride);
                t += 2;
            } else {
                rows_in_turn<Kind, 1>(m, from, begin, end, to, stride);
                t += 1;
            }
        }
    }
}

#endif

#ifdef WIDE_BF16

void brain_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    dense_product<Brain>(m, x.narrow.data(), x.count, y, stride, first, last);
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

#ifdef WIDE

void float_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last) {
    dense_product<Full>(m, x.wide.data(), x.count, y, stride, first, last);
}

#else

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

#endif
