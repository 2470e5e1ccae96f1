// From one projection (B, T, H + 2K, D) to queries (B, H, T, D), keys and values (B, K, T, D), and back.
//
// Queries and keys are normalised (RMSNorm of each head, where `weight` (H + K, D) is given) and turned by their
// position (Su et al. 2021, rotating halves: the sine's first half carries the minus sign); queries are multiplied by
// the scale of the attention. Tables are bf16 (B or 1, T, D); `stride` is 0 where all rows of the batch share them.
#include <cmath>
#include <vector>
#include "lanes.h"

struct Shape {
    int64_t batch, time, heads, kv_heads, size;
};

static inline int64_t place(const Shape &s, int64_t b, int64_t t, int64_t head, int64_t of) {
    return ((b * of + head) * s.time + t) * s.size;
}

static void turn(const float *x, const bf16 *cos, const bf16 *sin, float factor, bf16 *to, int64_t size) {
    int64_t half = size / 2;
#pragma omp simd
    for (int64_t j = 0; j < half; j++)
        to[j] = narrow(factor * (x[j] * widen(cos[j]) + x[j + half] * widen(sin[j])));
#pragma omp simd
    for (int64_t j = half; j < size; j++)
        to[j] = narrow(factor * (x[j] * widen(cos[j]) + x[j - half] * widen(sin[j])));
}

static void turn_back(const bf16 *slope, const bf16 *cos, const bf16 *sin, float factor, float *to, int64_t size) {
    int64_t half = size / 2;
#pragma omp simd
    for (int64_t j = 0; j < half; j++)
        to[j] = factor * (widen(slope[j]) * widen(cos[j]) + widen(slope[j + half]) * widen(sin[j + half]));
#pragma omp simd
    for (int64_t j = half; j < size; j++)
        to[j] = factor * (widen(slope[j]) * widen(cos[j]) + widen(slope[j - half]) * widen(sin[j - half]));
}

extern "C" void split_heads(const bf16 *projected, const float *weight, float eps, const bf16 *cos, const bf16 *sin,
                            int64_t stride, float factor, bf16 *query, bf16 *key, bf16 *value, float *scale,
                            int64_t batch, int64_t time, int64_t heads, int64_t kv_heads, int64_t size) {
    Shape s = {batch, time, heads, kv_heads, size};
    int64_t turned = heads + kv_heads, all = turned + kv_heads;
#pragma omp parallel for schedule(static) if (batch * time * all * size > 16384)
    for (int64_t row = 0; row < batch * time; row++) {
        int64_t b = row / time, t = row % time;
        float x[512];
        for (int64_t h = 0; h < all; h++) {
            const bf16 *from = projected + (row * all + h) * size;
            if (h >= turned) {
                std::memcpy(value + place(s, b, t, h - turned, kv_heads), from, size * sizeof(bf16));
                continue;
            }
            float r = 1;
            if (weight) {
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < size; j++) sum += widen(from[j]) * widen(from[j]);
                r = 1.0f / std::sqrt(sum / size + eps);
                scale[row * turned + h] = r;
#pragma omp simd
                for (int64_t j = 0; j < size; j++) x[j] = widen(from[j]) * r * weight[h * size + j];
            } else {
#pragma omp simd
                for (int64_t j = 0; j < size; j++) x[j] = widen(from[j]);
            }
            bf16 *to = h < heads ? query + place(s, b, t, h, heads) : key + place(s, b, t, h - heads, kv_heads);
            const bf16 *c = cos + b * stride + t * size, *n = sin + b * stride + t * size;
            turn(x, c, n, h < heads ? factor : 1.0f, to, size);
        }
    }
}

extern "C" void split_heads_backward(const bf16 *dquery, const bf16 *dkey, const bf16 *dvalue, const bf16 *projected,
                                     const float *weight, const float *scale, const bf16 *cos, const bf16 *sin,
                                     int64_t stride, float factor, bf16 *dprojected, float *dweight, int64_t batch,
                                     int64_t time, int64_t heads, int64_t kv_heads, int64_t size) {
    Shape s = {batch, time, heads, kv_heads, size};
    int64_t turned = heads + kv_heads, all = turned + kv_heads, rows = batch * time;
    std::vector<float> partial(weight ? SLICES * turned * size : 0, 0.0f);
#pragma omp parallel for schedule(static) if (rows * all * size > 16384)
    for (int64_t slice = 0; slice < SLICES; slice++) {
        float g[512];
        for (int64_t row = rows * slice / SLICES; row < rows * (slice + 1) / SLICES; row++) {
            int64_t b = row / time, t = row % time;
            for (int64_t h = 0; h < all; h++) {
                bf16 *to = dprojected + (row * all + h) * size;
                if (h >= turned) {
                    std::memcpy(to, dvalue + place(s, b, t, h - turned, kv_heads), size * sizeof(bf16));
                    continue;
                }
                const bf16 *slope =
                    h < heads ? dquery + place(s, b, t, h, heads) : dkey + place(s, b, t, h - heads, kv_heads);
                const bf16 *c = cos + b * stride + t * size, *n = sin + b * stride + t * size;
                turn_back(slope, c, n, h < heads ? factor : 1.0f, g, size);
                if (!weight) {
#pragma omp simd
                    for (int64_t j = 0; j < size; j++) to[j] = narrow(g[j]);
                    continue;
                }
                const bf16 *from = projected + (row * all + h) * size;
                const float *w = weight + h * size;
                float *part = partial.data() + (slice * turned + h) * size;
                float r = scale[row * turned + h], dot = 0;
#pragma omp simd reduction(+ : dot)
                for (int64_t j = 0; j < size; j++) dot += g[j] * w[j] * widen(from[j]);
                float mean = dot * r * r / size;
#pragma omp simd
                for (int64_t j = 0; j < size; j++) {
                    float v = widen(from[j]);
                    part[j] += g[j] * v * r;
                    to[j] = narrow(r * (g[j] * w[j] - v * mean));
                }
            }
        }
    }
    if (!weight) return;
    for (int64_t j = 0; j < turned * size; j++) {
        float sum = 0;
        for (int64_t slice = 0; slice < SLICES; slice++) sum += partial[slice * turned * size + j];
        dweight[j] = sum;
    }
}

// (B, H, T, D) to (B, T, H, D), or back with heads and time exchanged.
extern "C" void swap_heads(const bf16 *from, bf16 *to, int64_t batch, int64_t first, int64_t second, int64_t size) {
#pragma omp parallel for schedule(static) collapse(2) if (batch * first * second * size > 16384)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t j = 0; j < second; j++)
            for (int64_t i = 0; i < first; i++)
                std::memcpy(to + ((b * second + j) * first + i) * size, from + ((b * first + i) * second + j) * size,
                            size * sizeof(bf16));
}
