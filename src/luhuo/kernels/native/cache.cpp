// Keeping keys and values in eight and four bits, and widening them again: the arithmetic of model/cache_formats.py.
#include <cmath>
#include "cache.h"
#include "half.h"

static const float LEVELS = 127.0f, MOST = 65504.0f, TINY = 1.17549435e-38f;

static void keep_eight(int8_t *to, float *scale, const float *x, int64_t size) {
    float most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < size; j++) most = std::fabs(x[j]) > most ? std::fabs(x[j]) : most;
    *scale = most / LEVELS;
    float step = *scale > TINY ? *scale : TINY;
#pragma omp simd
    for (int64_t j = 0; j < size; j++) to[j] = (int8_t)(int32_t)std::rint(x[j] / step);
}

static inline float bounded(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// `scales` are a scale and a low for each group.
static void keep_four(uint8_t *to, uint16_t *scales, int64_t groups, const float *x, int64_t size) {
    int64_t group = size / groups;
    for (int64_t g = 0; g < groups; g++) {
        const float *from = x + g * group;
        float low = from[0], high = from[0];
#pragma omp simd reduction(min : low) reduction(max : high)
        for (int64_t j = 0; j < group; j++) {
            low = from[j] < low ? from[j] : low;
            high = from[j] > high ? from[j] : high;
        }
        scales[2 * g + 1] = to_half(bounded(low, -MOST, MOST));
        low = of_half(scales[2 * g + 1]);
        scales[2 * g] = to_half(bounded((high - low) / 15.0f, 0.0f, MOST));
        float step = of_half(scales[2 * g]);
        if (step <= 0) step = 1;
        uint8_t *pairs = to + g * group / 2;
        for (int64_t j = 0; j < group / 2; j++) {
            uint8_t first = (uint8_t)bounded(std::rint((from[2 * j] - low) / step), 0.0f, 15.0f);
            uint8_t second = (uint8_t)bounded(std::rint((from[2 * j + 1] - low) / step), 0.0f, 15.0f);
            pairs[j] = (uint8_t)(first | second << 4);
        }
    }
}

static void keep_one(const Cache &c, void *numbers, void *scales, int64_t scale_count, int64_t place, const float *x,
                     int64_t size) {
    int64_t at = place / c.slot_stride * scale_count;
    if (c.number == EIGHT) keep_eight((int8_t *)numbers + place, (float *)scales + at, x, size);
    else keep_four((uint8_t *)numbers + place, (uint16_t *)scales + at, scale_count / 2, x, size);
}

void keep_few(const Cache &c, int64_t place, const float *key, const float *value, int64_t size) {
    keep_one(c, c.keys, c.key_scales, c.key_scale_count, place, key, size);
    keep_one(c, c.values, c.value_scales, c.value_scale_count, place, value, size);
}

static inline void put(float *to, float x) { *to = x; }
static inline void put(bf16 *to, float x) { *to = narrow(x); }

template <typename Wide>
static void widen_slots(const Cache &c, const void *numbers, const void *scales, int64_t scale_count, int64_t place,
                        int64_t count, int64_t size, Wide *to) {
    int64_t at = place / c.slot_stride * scale_count, groups = scale_count / 2;
    for (int64_t s = 0; s < count; s++, to += size) {
        if (c.number == EIGHT) {
            const int8_t *q = (const int8_t *)numbers + place + s * c.slot_stride;
            float scale = ((const float *)scales)[at + s];
#pragma omp simd
            for (int64_t j = 0; j < size; j++) put(to + j, (float)q[j] * scale);
            continue;
        }
        const uint8_t *pairs = (const uint8_t *)numbers + place + s * c.slot_stride;
        const uint16_t *own = (const uint16_t *)scales + at + s * scale_count;
        int64_t half = size / groups / 2;
        for (int64_t g = 0; g < groups; g++) {
            float scale = of_half(own[2 * g]), low = of_half(own[2 * g + 1]);
#pragma omp simd
            for (int64_t j = g * half; j < (g + 1) * half; j++) {
                put(to + 2 * j, (float)(pairs[j] & 15) * scale + low);
                put(to + 2 * j + 1, (float)(pairs[j] >> 4) * scale + low);
            }
        }
    }
}

template <typename Wide>
static void widen_both(const Cache &c, int64_t place, int64_t count, int64_t size, Wide *keys, Wide *values) {
    widen_slots(c, c.keys, c.key_scales, c.key_scale_count, place, count, size, keys);
    widen_slots(c, c.values, c.value_scales, c.value_scale_count, place, count, size, values);
}

void widen_few(const Cache &c, int64_t place, int64_t count, int64_t size, void *keys, void *values) {
    if (c.widened == FLOAT) widen_both(c, place, count, size, (float *)keys, (float *)values);
    else widen_both(c, place, count, size, (bf16 *)keys, (bf16 *)values);
}
