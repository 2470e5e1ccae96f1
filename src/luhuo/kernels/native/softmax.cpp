// The softmax of attention scores and of the output layer, in place, bf16.
#include "lanes.h"

static const float UNSEEN = -3.0e38f;
static const int64_t LONGEST = 4096;

// Scores (matrices, groups · count, keys) of `count` queries from `start` on, for keys from `offset` on: query i looks
// at keys first[i] … start + i but those from gaps[i][0] to gaps[i][1]. `first` is (matrices / shared, time), or null:
// from key 0 on; `gaps` (matrices / shared, time, 2), or null: none. What is not seen becomes 0. At most LONGEST keys.
extern "C" void causal_softmax(bf16 *scores, const int32_t *first, const int32_t *gaps, int64_t shared, int64_t time,
                               int64_t matrices, int64_t groups, int64_t start, int64_t count, int64_t offset,
                               int64_t keys) {
#pragma omp parallel for schedule(static) if (matrices * groups * count * keys > 16384)
    for (int64_t row = 0; row < matrices * groups * count; row++) {
        int64_t i = row % count, matrix = row / (groups * count);
        int64_t place = (matrix / shared) * time + start + i;
        int64_t from = (first ? first[place] : 0) - offset, to = start + i + 1 - offset;
        int64_t gap = gaps ? gaps[2 * place] - offset : 0, after = gaps ? gaps[2 * place + 1] - offset : 0;
        bf16 *x = scores + row * keys;
        // Whole vectors, with what is not seen at minus infinity: its share comes out as 0.
        int64_t low = from & ~15L, high = (to + 15) & ~15L;
        if (high > keys) high = keys;
        float top = UNSEEN, sum = 0, e[LONGEST];
#pragma omp simd reduction(max : top)
        for (int64_t j = low; j < high; j++) {
            e[j] = j >= from && j < to && (j < gap || j >= after) ? widen(x[j]) : UNSEEN;
            top = e[j] > top ? e[j] : top;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t j = low; j < high; j++) {
            e[j] = exponential(e[j] - top);
            sum += e[j];
        }
        float inverse = 1.0f / sum;
        std::memset(x, 0, low * sizeof(bf16));
#pragma omp simd
        for (int64_t j = low; j < high; j++) x[j] = narrow(e[j] * inverse);
        std::memset(x + high, 0, (keys - high) * sizeof(bf16));
    }
}

// slope ← share · (slope - sum(slope · share)), each row of `keys`.
extern "C" void softmax_backward(bf16 *slope, const bf16 *share, int64_t rows, int64_t keys) {
#pragma omp parallel for schedule(static) if (rows * keys > 16384)
    for (int64_t row = 0; row < rows; row++) {
        bf16 *d = slope + row * keys;
        const bf16 *p = share + row * keys;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < keys; j++) dot += widen(d[j]) * widen(p[j]);
#pragma omp simd
        for (int64_t j = 0; j < keys; j++) d[j] = narrow(widen(p[j]) * (widen(d[j]) - dot));
    }
}

// Losses (rows,) of logits (rows, vocab) against targets; with `slopes`, the logits become softmax - one-hot.
extern "C" void cross_entropy(bf16 *logits, const int64_t *targets, float *losses, int64_t rows, int64_t vocab,
                              int64_t slopes) {
#pragma omp parallel for schedule(static) if (rows * vocab > 16384)
    for (int64_t row = 0; row < rows; row++) {
        bf16 *x = logits + row * vocab;
        float top = UNSEEN, sum = 0;
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < vocab; j++) top = widen(x[j]) > top ? widen(x[j]) : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < vocab; j++) sum += exponential(widen(x[j]) - top);
        int64_t target = targets[row];
        float wanted = widen(x[target]) - top;
        losses[row] = __builtin_logf(sum) - wanted;
        if (!slopes) continue;
        float inverse = 1.0f / sum;
#pragma omp simd
        for (int64_t j = 0; j < vocab; j++) x[j] = narrow(exponential(widen(x[j]) - top) * inverse);
        x[target] = narrow(exponential(wanted) * inverse - 1.0f);
    }
}

// sum ← piece, or sum + piece where `more`: fp32 and bf16.
extern "C" void accumulate(float *sum, const bf16 *piece, int64_t count, int64_t more) {
#pragma omp parallel for simd schedule(static) if (count > 32768)
    for (int64_t i = 0; i < count; i++) sum[i] = (more ? sum[i] : 0.0f) + widen(piece[i]);
}
