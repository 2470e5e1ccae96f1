// Products with matrices that keep two of four values (Mishra et al. 2021), in bf16.
//
// Sixteen rows are a unit, as in packed.py. Of 32 columns a unit holds nine times sixteen lanes of 32 bits, lane r for
// its row r: first the places, then eight times the two values of four columns. The places of columns 4g … 4g + 3 are
// the bits 2g and 2g + 1 of each half of the lane. The four activations, repeated over a whole vector, are permuted by
// them: a permutation of 16-bit lanes takes five bits of its index, of which the upper three choose between repetitions
// and so may be anything. A shift is all that is needed.
#include "products.h"
#include "wide.h"

static const int64_t WIDTH = 32, LANES = 9 * UNIT;
static const int64_t AHEAD = 7 * LANES;  // lanes that are asked for before they are needed: 4 KB

#ifdef WIDE_BF16

// y (TOKENS, 16 rows) of one unit; units are read one after the other (products.cpp).
template <int TOKENS>
static void sparse_unit(const Matrix &m, const bf16 *x, int64_t unit, float *y, int64_t stride) {
    constexpr int CHAINS = TOKENS > 2 ? 1 : 2;
    int64_t padded = m.padded(), pieces = padded / WIDTH;
    const int32_t *weight = (const int32_t *)m.weight + unit * pieces * LANES;
    __m512 sum[TOKENS][CHAINS];
    for (int t = 0; t < TOKENS; t++)
        for (int c = 0; c < CHAINS; c++) sum[t][c] = _mm512_setzero_ps();
    for (int64_t p = 0; p < pieces; p++) {
        const int32_t *from = weight + p * LANES;
        __m512i places = _mm512_loadu_si512(from);
        for (int g = 0; g < 8; g++) {
            _mm_prefetch((const char *)(from + AHEAD + g * UNIT), _MM_HINT_T0);
            __m512bh w = (__m512bh)_mm512_loadu_si512(from + (g + 1) * UNIT);
            for (int t = 0; t < TOKENS; t++) {
                int64_t four;
                std::memcpy(&four, x + t * padded + p * WIDTH + 4 * g, 8);
                __m512i v = _mm512_permutexvar_epi16(places, _mm512_set1_epi64(four));
                sum[t][g % CHAINS] = _mm512_dpbf16_ps(sum[t][g % CHAINS], w, (__m512bh)v);
            }
            places = _mm512_srli_epi16(places, 2);
        }
    }
    int64_t row = unit * UNIT, left = m.rows - row;
    __mmask16 mask = left >= UNIT ? 0xffff : (__mmask16)((1 << left) - 1);
    for (int t = 0; t < TOKENS; t++) {
        __m512 whole = sum[t][0];
        if (CHAINS == 2) whole = _mm512_add_ps(whole, sum[t][CHAINS - 1]);
        _mm512_mask_storeu_ps(y + t * stride + row, mask, whole);
    }
}

void sparse_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end) {
    int64_t padded = m.padded();
    for (int64_t unit = begin; unit < end; unit++)
        for (int64_t t = 0; t < x.count;) {
            const bf16 *from = x.narrow.data() + t * padded;
            float *to = y + t * stride;
            int64_t left = x.count - t;
            if (left >= 8) sparse_unit<8>(m, from, unit, to, stride), t += 8;
            else if (left >= 4) sparse_unit<4>(m, from, unit, to, stride), t += 4;
            else if (left >= 2) sparse_unit<2>(m, from, unit, to, stride), t += 2;
            else sparse_unit<1>(m, from, unit, to, stride), t += 1;
        }
}

#else

void sparse_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end) {
    int64_t padded = m.padded(), pieces = padded / WIDTH;
    for (int64_t unit = begin; unit < end; unit++)
        for (int64_t t = 0; t < x.count; t++) {
            const bf16 *from = x.narrow.data() + t * padded;
            float sum[UNIT] = {};
            for (int64_t p = 0; p < pieces; p++) {
                const uint32_t *lanes = (const uint32_t *)m.weight + (unit * pieces + p) * LANES;
                for (int64_t g = 0; g < 8; g++)
                    for (int64_t r = 0; r < UNIT; r++) {
                        uint32_t places = lanes[r] >> (2 * g), values = lanes[(g + 1) * UNIT + r];
                        const bf16 *four = from + p * WIDTH + 4 * g;
                        sum[r] += widen((bf16)values) * widen(four[places & 3]);
                        sum[r] += widen((bf16)(values >> 16)) * widen(four[places >> 16 & 3]);
                    }
            }
            for (int64_t r = 0; r < UNIT && unit * UNIT + r < m.rows; r++) y[t * stride + unit * UNIT + r] = sum[r];
        }
}

#endif

// A sparse matrix as bf16 (rows, columns).
extern "C" void unpack_sparse(const Matrix *matrix, bf16 *to) {
    const Matrix &m = *matrix;
    int64_t pieces = m.padded() / WIDTH;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < m.rows; row++) {
        bf16 *found = to + row * m.columns;
        std::memset(found, 0, m.columns * sizeof(bf16));
        for (int64_t p = 0; p < pieces; p++) {
            const uint32_t *lanes = (const uint32_t *)m.weight + (row / UNIT * pieces + p) * LANES + row % UNIT;
            for (int64_t g = 0; g < 8 && p * WIDTH + 4 * g < m.columns; g++) {
                uint32_t places = lanes[0] >> (2 * g), values = lanes[(g + 1) * UNIT];
                bf16 *four = found + p * WIDTH + 4 * g;
                four[places & 3] = (bf16)values;
                four[places >> 16 & 3] = (bf16)(values >> 16);
            }
        }
    }
}
