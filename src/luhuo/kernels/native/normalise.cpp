// RMSNorm (Zhang and Sennrich 2019) of bf16 rows: y = x · r · w with r = 1 / sqrt(mean(x²) + eps).
#include <cmath>
#include <vector>
#include "lanes.h"

extern "C" void rms_norm(const bf16 *x, const float *weight, float eps, bf16 *y, float *scale, int64_t rows,
                         int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > 32768)
    for (int64_t i = 0; i < rows; i++) {
        const bf16 *from = x + i * width;
        bf16 *to = y + i * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < width; j++) sum += widen(from[j]) * widen(from[j]);
        float r = 1.0f / std::sqrt(sum / width + eps);
        scale[i] = r;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) to[j] = narrow(widen(from[j]) * r * weight[j]);
    }
}

// dx = r · (g - u · mean(g · u)) with u = x · r and g = dy · w; dw = sum of dy · u over the rows.
extern "C" void rms_norm_backward(const bf16 *dy, const bf16 *x, const float *weight, const float *scale, bf16 *dx,
                                  float *dweight, int64_t rows, int64_t width) {
    std::vector<float> partial(SLICES * width, 0.0f);
#pragma omp parallel for schedule(static) if (rows * width > 32768)
    for (int64_t slice = 0; slice < SLICES; slice++) {
        float *part = partial.data() + slice * width;
        for (int64_t i = rows * slice / SLICES; i < rows * (slice + 1) / SLICES; i++) {
            const bf16 *slope = dy + i * width, *from = x + i * width;
            float r = scale[i], dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t j = 0; j < width; j++) dot += widen(slope[j]) * weight[j] * widen(from[j]);
            float mean = dot * r * r / width;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                float d = widen(slope[j]), v = widen(from[j]);
                part[j] += d * v * r;
                dx[i * width + j] = narrow(r * (d * weight[j] - v * mean));
            }
        }
    }
    for (int64_t j = 0; j < width; j++) {
        float sum = 0;
        for (int64_t slice = 0; slice < SLICES; slice++) sum += partial[slice * width + j];
        dweight[j] = sum;
    }
}
