// silu(gate) · up for rows that hold gate and up side by side (Shazeer 2020), bf16.
#include "lanes.h"

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

extern "C" void swiglu(const bf16 *both, bf16 *y, int64_t rows, int64_t inner) {
#pragma omp parallel for schedule(static) if (rows * inner > 16384)
    for (int64_t i = 0; i < rows; i++) {
        const bf16 *gate = both + i * 2 * inner, *up = gate + inner;
        bf16 *to = y + i * inner;
#pragma omp simd
        for (int64_t j = 0; j < inner; j++) {
            float g = widen(gate[j]);
            to[j] = narrow(g * sigmoid(g) * widen(up[j]));
        }
    }
}

extern "C" void swiglu_backward(const bf16 *dy, const bf16 *both, bf16 *dboth, int64_t rows, int64_t inner) {
#pragma omp parallel for schedule(static) if (rows * inner > 16384)
    for (int64_t i = 0; i < rows; i++) {
        const bf16 *gate = both + i * 2 * inner, *up = gate + inner, *slope = dy + i * inner;
        bf16 *dgate = dboth + i * 2 * inner, *dup = dgate + inner;
#pragma omp simd
        for (int64_t j = 0; j < inner; j++) {
            float g = widen(gate[j]), s = sigmoid(g), d = widen(slope[j]);
            dup[j] = narrow(d * g * s);
            dgate[j] = narrow(d * widen(up[j]) * s * (1.0f + g * (1.0f - s)));
        }
    }
}
