// Products of a few rows of activations (one to sixteen, any number works) with a matrix of weights: every weight is
// read once from memory. Sums are fp32.
//
// Weights of 8 and 4 bits are not multiplied as integers, which would need activations of 8 bits too and cost accuracy
// (0.3% of perplexity on SmolLM2-135M), but looked up: all sixteen values of four bits are exact in bf16, a permutation
// of 16-bit lanes looks 32 of them up at once, and takes the index from the low five bits of a lane, so that a shift is
// all it needs. A byte is looked up as 16 · (its high half) + (its low half), and from four rows of activations on it is
// converted once. The two bytes of an 8-bit float in bf16 are looked up in two tables of 128, its sign is added. A lane
// of 32 bits belongs to one row, so nothing is summed across lanes.
#include <cmath>
#include <cstring>
#include "half.h"
#include "products.h"
#include "wide.h"

// An E4M3 number without its sign as bf16 (Micikevicius et al. 2022): exponents from -6, subnormals below, one NaN.
static bf16 of_eight_bits(int bits) {
    int exponent = bits >> 3, mantissa = bits & 7;
    if (bits == 127) return 0x7fc0;
    return ::narrow(exponent ? std::ldexp(1.0f + mantissa / 8.0f, exponent - 7) : std::ldexp(mantissa / 8.0f, -6));
}

// All 256 of them, and the two bytes of those without sign in bf16.
struct EightBitFloats {
    float values[256];
    uint8_t upper[128], lower[128];
    EightBitFloats() {
        for (int i = 0; i < 256; i++) values[i] = (i & 128 ? -1.0f : 1.0f) * widen(of_eight_bits(i & 127));
        for (int i = 0; i < 128; i++) upper[i] = of_eight_bits(i) >> 8, lower[i] = (uint8_t)of_eight_bits(i);
    }
};
static const EightBitFloats EIGHT_BIT_FLOATS;

float number_at(const void *numbers, int64_t kind, int64_t place) {
    if (kind == FLOAT) return ((const float *)numbers)[place];
    uint16_t bits = ((const uint16_t *)numbers)[place];
    return kind == BRAIN ? widen(bits) : of_half(bits);
}

void Activations::prepare(const Matrix &matrix, const float *x, int64_t rows, int64_t stride) {
    count = rows;
    int64_t columns = matrix.columns, padded = matrix.padded(), group = matrix.group;
    std::vector<float> &to = wide;
    to.resize(rows * padded);
    for (int64_t i = 0; i < rows; i++) {
        float *row = to.data() + i * padded;
        if (matrix.order)
            for (int64_t j = 0; j < columns; j++) row[j] = x[i * stride + matrix.order[j]];
        else
            std::memcpy(row, x + i * stride, columns * sizeof(float));
        for (int64_t j = columns; j < padded; j++) row[j] = 0;
    }
    if (matrix.form == FP32) return;
    if (matrix.form == ROUNDED) return round_activations(matrix, *this);
    narrow.resize(rows * padded);
    for (int64_t j = 0; j < rows * padded; j++) narrow[j] = ::narrow(to[j]);
    if (!matrix.low) return;
    sums.resize(rows * (padded / group));
    for (int64_t i = 0; i < rows * padded / group; i++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < group; j++) sum += widen(narrow[i * group + j]);
        sums[i] = sum;
    }
}

// Steps of a packed matrix: the columns that one 32-bit lane holds.
static inline int64_t step_of(int64_t form) { return form == INT4 ? 8 : 4; }

#ifdef WIDE_BF16

static const int64_t AHEAD = 1024;  // lanes of weights that are asked for before they are needed: 4 KB

static inline __m512 load_numbers(const void *numbers, int64_t kind, int64_t place) {
    if (kind == FLOAT) return _mm512_loadu_ps((const float *)numbers + place);
    __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)numbers + place));
    if (kind == HALF) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// The bf16 numbers `first` … `first` + 15 times `factor`, twice: a lookup by the low five bits ignores the fifth.
static __m512i table(int first, int wrap, float factor) {
    bf16 values[32];
    for (int i = 0; i < 32; i++) {
        int value = (i & 15) + first;
        values[i] = ::narrow(factor * (float)(value >= wrap ? value - 16 : value));
    }
    return _mm512_loadu_si512(values);
}

// The top bytes of two vectors of integers as pairs in bf16, which holds all numbers of eight bits.
static inline __m512bh pair_of(__m512i first, __m512i second) {
    __m512i a = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(first, 24)));
    __m512i b = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(second, 24)));
    return (__m512bh)_mm512_or_si512(_mm512_srli_epi32(a, 16), b);
}

// y (TOKENS, 16 rows) of one unit. Units are read one after the other: two at once are two streams, which the processor
// reads ahead less well (half to two thirds of the speed on a Zen 4).
template <int FORM, int TOKENS>
static void low_unit(const Matrix &m, const bf16 *x, const float *sums, int64_t unit, float *y, int64_t stride) {
    constexpr int64_t STEP = FORM == INT4 ? 8 : 4;
    constexpr int CHAINS = TOKENS > 4 ? 2 : 4;
    constexpr bool CONVERTED = FORM == INT8 && TOKENS >= 4;  // worth it where a weight is used that often
    constexpr int PARTS = CONVERTED || FORM == E4M3 ? 2 : 4;
    int64_t padded = m.padded(), groups = padded / m.group, steps = m.group / STEP;
    const __m512i low = FORM == INT8 || m.low ? table(0, 16, 1) : table(-8, 16, 1);
    const __m512i high = FORM == INT8 ? table(0, 8, 16) : low;
    const uint8_t *tops = EIGHT_BIT_FLOATS.upper, *bottoms = EIGHT_BIT_FLOATS.lower;
    const __m512i upper[2] = {_mm512_loadu_si512(tops), _mm512_loadu_si512(tops + 64)};
    const __m512i lower[2] = {_mm512_loadu_si512(bottoms), _mm512_loadu_si512(bottoms + 64)};
    const __m512i sign = _mm512_set1_epi8((char)0x80), byte = _mm512_set1_epi16(0xff);
    const int32_t *weight = (const int32_t *)m.weight + unit * (padded / STEP) * UNIT;
    __m512 total[TOKENS];
    for (int t = 0; t < TOKENS; t++) total[t] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        __m512 part[TOKENS][CHAINS];
        for (int t = 0; t < TOKENS; t++)
            for (int c = 0; c < CHAINS; c++) part[t][c] = _mm512_setzero_ps();
        for (int64_t s = g * steps; s < (g + 1) * steps; s++) {
            const int32_t *from = weight + s * UNIT;
            _mm_prefetch((const char *)(from + AHEAD), _MM_HINT_T0);
            __m512i v = _mm512_loadu_si512(from);
            __m512bh w[4];
            if constexpr (CONVERTED) {
                w[0] = pair_of(_mm512_slli_epi32(v, 24), _mm512_slli_epi32(v, 8));
                w[1] = pair_of(_mm512_slli_epi32(v, 16), v);
            } else if constexpr (FORM == E4M3) {
                __m512i up = _mm512_permutex2var_epi8(upper[0], v, upper[1]);
                __m512i down = _mm512_permutex2var_epi8(lower[0], v, lower[1]);
                up = _mm512_or_si512(up, _mm512_and_si512(v, sign));
                w[0] = (__m512bh)_mm512_or_si512(_mm512_slli_epi16(up, 8), _mm512_and_si512(down, byte));
                w[1] = (__m512bh)_mm512_or_si512(_mm512_andnot_si512(byte, up), _mm512_srli_epi16(down, 8));
            } else {
                w[0] = (__m512bh)_mm512_permutexvar_epi16(v, low);
                w[1] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(v, 4), high);
                w[2] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(v, 8), low);
                w[3] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(v, 12), high);
            }
            for (int t = 0; t < TOKENS; t++) {
                const bf16 *pairs = x + t * padded + s * STEP;
                for (int j = 0; j < PARTS; j++) {
                    int32_t pair;
                    std::memcpy(&pair, pairs + 2 * (FORM == INT8 && !CONVERTED ? j / 2 : j), 4);
                    __m512 &sum = part[t][j % CHAINS];
                    sum = _mm512_dpbf16_ps(sum, w[j], (__m512bh)_mm512_set1_epi32(pair));
                }
            }
        }
        int64_t place = (unit * groups + g) * UNIT;
        __m512 scale = load_numbers(m.scale, m.scale_number, place);
        for (int t = 0; t < TOKENS; t++) {
            __m512 sum = _mm512_add_ps(part[t][0], part[t][1]);
            if (CHAINS == 4) sum = _mm512_add_ps(sum, _mm512_add_ps(part[t][CHAINS - 2], part[t][CHAINS - 1]));
            total[t] = _mm512_fmadd_ps(sum, scale, total[t]);
        }
        if (!m.low) continue;
        __m512 lows = load_numbers(m.low, m.low_number, place);
        for (int t = 0; t < TOKENS; t++)
            total[t] = _mm512_fmadd_ps(lows, _mm512_set1_ps(sums[t * groups + g]), total[t]);
    }
    int64_t row = unit * UNIT, left = m.rows - row;
    __mmask16 mask = left >= UNIT ? 0xffff : (__mmask16)((1 << left) - 1);
    for (int t = 0; t < TOKENS; t++) _mm512_mask_storeu_ps(y + t * stride + row, mask, total[t]);
}

template <int FORM>
static void low_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end) {
    int64_t padded = m.padded(), groups = padded / m.group;
    for (int64_t unit = begin; unit < end; unit++)
        for (int64_t t = 0; t < x.count;) {
            const bf16 *from = x.narrow.data() + t * padded;
            const float *sums = x.sums.data() + t * groups;
            float *to = y + t * stride;
            int64_t left = x.count - t;
            if (left >= 8) low_unit<FORM, 8>(m, from, sums, unit, to, stride), t += 8;
            else if (left >= 4) low_unit<FORM, 4>(m, from, sums, unit, to, stride), t += 4;
            else if (left >= 2) low_unit<FORM, 2>(m, from, sums, unit, to, stride), t += 2;
            else low_unit<FORM, 1>(m, from, sums, unit, to, stride), t += 1;
        }
}

#else

// One unit of a packed matrix for one row of activations.
static void low_unit(const Matrix &m, const bf16 *x, const float *sums, int64_t unit, float *y) {
    int64_t step = step_of(m.form), padded = m.padded(), groups = padded / m.group, steps = m.group / step;
    const uint32_t *weight = (const uint32_t *)m.weight + unit * (padded / step) * UNIT;
    float zero = m.low ? 0.0f : 8.0f, total[UNIT] = {};
    for (int64_t g = 0; g < groups; g++) {
        float part[UNIT] = {};
        for (int64_t s = g * steps; s < (g + 1) * steps; s++) {
            const uint32_t *from = weight + s * UNIT;
            float v[8];
            for (int64_t j = 0; j < step; j++) v[j] = widen(x[s * step + j]);
            if (m.form == INT4) {
#pragma omp simd
                for (int64_t r = 0; r < UNIT; r++)
                    for (int j = 0; j < 4; j++) {
                        part[r] += ((float)(int32_t)(from[r] >> (4 * j) & 15) - zero) * v[2 * j];
                        part[r] += ((float)(int32_t)(from[r] >> (4 * j + 16) & 15) - zero) * v[2 * j + 1];
                    }
            } else if (m.form == E4M3) {
                const float *values = EIGHT_BIT_FLOATS.values;
                for (int64_t r = 0; r < UNIT; r++) {
                    part[r] += values[from[r] & 255] * v[0];
                    part[r] += values[from[r] >> 16 & 255] * v[1];
                    part[r] += values[from[r] >> 8 & 255] * v[2];
                    part[r] += values[from[r] >> 24] * v[3];
                }
            } else {
#pragma omp simd
                for (int64_t r = 0; r < UNIT; r++) {
                    part[r] += (float)((int32_t)(from[r] << 24) >> 24) * v[0];
                    part[r] += (float)((int32_t)(from[r] << 8) >> 24) * v[1];
                    part[r] += (float)((int32_t)(from[r] << 16) >> 24) * v[2];
                    part[r] += (float)((int32_t)from[r] >> 24) * v[3];
                }
            }
        }
        int64_t place = (unit * groups + g) * UNIT;
        for (int64_t r = 0; r < UNIT; r++) {
            total[r] += part[r] * number_at(m.scale, m.scale_number, place + r);
            if (m.low) total[r] += sums[g] * number_at(m.low, m.low_number, place + r);
        }
    }
    for (int64_t r = 0; r < UNIT && unit * UNIT + r < m.rows; r++) y[unit * UNIT + r] = total[r];
}

template <int FORM>
static void low_product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end) {
    int64_t padded = m.padded(), groups = padded / m.group;
    for (int64_t unit = begin; unit < end; unit++)
        for (int64_t t = 0; t < x.count; t++)
            low_unit(m, x.narrow.data() + t * padded, x.sums.data() + t * groups, unit, y + t * stride);
}

#endif

void product(const Matrix &m, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end) {
    int64_t first = begin * UNIT, last = end * UNIT < m.rows ? end * UNIT : m.rows;
    if (m.form == INT4) low_product<INT4>(m, x, y, stride, begin, end);
    else if (m.form == INT8) low_product<INT8>(m, x, y, stride, begin, end);
    else if (m.form == E4M3) low_product<E4M3>(m, x, y, stride, begin, end);
    else if (m.form == ROUNDED) rounded_product(m, x, y, stride, first, last);
    else if (m.form == SPARSE) sparse_product(m, x, y, stride, begin, end);
    else if (m.form == BF16) brain_product(m, x, y, stride, first, last);
    else float_product(m, x, y, stride, first, last);
    if (!m.bias) return;
    for (int64_t t = 0; t < x.count; t++)
        for (int64_t row = first; row < last; row++) y[t * stride + row] += number_at(m.bias, m.bias_number, row);
}

// y (count, rows) of x (count, columns), both fp32.
extern "C" void matrix_product(const Matrix *matrix, const float *x, float *y, int64_t count) {
    Activations rows;
    rows.prepare(*matrix, x, count, matrix->columns);
    int64_t units = matrix->units(), pieces = (units + 7) / 8;
#pragma omp parallel for schedule(static) if (matrix->rows * matrix->columns > 65536)
    for (int64_t piece = 0; piece < pieces; piece++) {
        int64_t end = 8 * piece + 8 < units ? 8 * piece + 8 : units;
        product(*matrix, rows, y, matrix->rows, 8 * piece, end);
    }
}

void matrix_row(const Matrix &m, int64_t row, float *to) {
    if (m.form == FP32) {
        std::memcpy(to, (const float *)m.weight + row * m.columns, m.columns * sizeof(float));
        return;
    }
    if (m.form == BF16) {
        const bf16 *from = (const bf16 *)m.weight + row * m.columns;
        for (int64_t k = 0; k < m.columns; k++) to[k] = widen(from[k]);
        return;
    }
    int64_t step = step_of(m.form), groups = m.padded() / m.group, unit = row / UNIT, lane = row % UNIT;
    const uint32_t *weight = (const uint32_t *)m.weight + unit * (m.padded() / step) * UNIT + lane;
    float zero = m.low ? 0.0f : 8.0f;
    for (int64_t k = 0; k < m.columns; k++) {
        int64_t at = k % step, place = (unit * groups + k / m.group) * UNIT + lane;
        int bits = m.form == INT4 ? 4 : 8, shift = bits * (int)(at / 2) + 16 * (int)(at % 2);
        uint32_t q = weight[k / step * UNIT] >> shift & ((1u << bits) - 1);
        float value = m.form == INT4 ? (float)q - zero : m.form == E4M3 ? EIGHT_BIT_FLOATS.values[q] : (float)(int8_t)q;
        value *= number_at(m.scale, m.scale_number, place);
        to[m.order ? m.order[k] : k] = m.low ? value + number_at(m.low, m.low_number, place) : value;
    }
}

// A packed matrix as bf16 (rows, columns), its columns in the order of the activations.
extern "C" void unpack_matrix(const Matrix *matrix, bf16 *to) {
    const Matrix &m = *matrix;
    int64_t step = step_of(m.form), padded = m.padded(), groups = padded / m.group, units = m.units();
#pragma omp parallel for schedule(static)
    for (int64_t unit = 0; unit < units; unit++) {
        std::vector<bf16> rows(padded * UNIT);
        const uint32_t *weight = (const uint32_t *)m.weight + unit * (padded / step) * UNIT;
        float zero = m.low ? 0.0f : 8.0f;
        for (int64_t g = 0; g < groups; g++) {
            float scale[UNIT], low[UNIT];
            for (int64_t r = 0; r < UNIT; r++) {
                int64_t place = (unit * groups + g) * UNIT + r;
                scale[r] = number_at(m.scale, m.scale_number, place);
                low[r] = m.low ? number_at(m.low, m.low_number, place) : 0.0f;
            }
            for (int64_t k = g * m.group; k < (g + 1) * m.group; k++) {
                const uint32_t *from = weight + k / step * UNIT;
                bf16 *row = rows.data() + k * UNIT;
                int64_t at = k % step;  // pairs of columns lie in the two halves of a lane
                int up = m.form == INT4 ? 28 - 4 * (int)(at / 2) - 16 * (int)(at % 2)
                                        : 24 - 8 * (int)(at / 2) - 16 * (int)(at % 2);
                if (m.form == INT4) {
#pragma omp simd
                    for (int64_t r = 0; r < UNIT; r++)
                        row[r] = narrow(scale[r] * ((float)(int32_t)(from[r] << up >> 28) - zero) + low[r]);
                } else if (m.form == E4M3) {
                    for (int64_t r = 0; r < UNIT; r++)
                        row[r] = narrow(scale[r] * EIGHT_BIT_FLOATS.values[from[r] << up >> 24] + low[r]);
                } else {
#pragma omp simd
                    for (int64_t r = 0; r < UNIT; r++)
                        row[r] = narrow(scale[r] * (float)((int32_t)(from[r] << up) >> 24) + low[r]);
                }
            }
        }
        for (int64_t r = 0; r < UNIT && unit * UNIT + r < m.rows; r++) {
            bf16 *row = to + (unit * UNIT + r) * m.columns;
            for (int64_t k = 0; k < m.columns; k++) row[m.order ? m.order[k] : k] = rows[k * UNIT + r];
        }
    }
}
