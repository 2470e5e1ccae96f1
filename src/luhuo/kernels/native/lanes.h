// Numbers in bfloat16 and the exponential, written so that the compiler makes vector code of loops over them.
#pragma once
#include <cstdint>
#include <cstring>

typedef uint16_t bf16;

static inline float widen(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// To the nearest, ties to even, as PyTorch rounds.
static inline bf16 narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x with a relative error below 2e-7 for x <= 88; below -87 it is 0. 2^n · p(r), x = n·ln 2 + r, |r| <= ln 2 / 2.
static inline float exponential(float x) {
    float bounded = x < -87.0f ? -87.0f : x;
    float n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = bounded - n * 0.693145752f - n * 1.42860677e-6f;
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * (0.00833333333f
        + r * 0.00138888889f)))));
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : power * p;
}

// Rows one thread takes at a time where sums over rows are made: fixed, so that the result does not depend on how
// many threads there are.
static const int64_t SLICES = 64;
