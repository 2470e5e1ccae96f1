// One step of AdamW (Loshchilov and Hutter 2019) on fp32 weights and moments with gradients in bf16, in one pass.
#include <cmath>
#include "lanes.h"

// `rate` is divided by the first moment's bias correction already, `root` is the root of the second's.
extern "C" void adamw(float *weight, const bf16 *gradient, float *first, float *second, int64_t count, float kept,
                      float rate, float beta1, float beta2, float root, float epsilon) {
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++) {
        float g = widen(gradient[i]);
        float m = first[i] + (1.0f - beta1) * (g - first[i]);
        float v = beta2 * second[i] + (1.0f - beta2) * g * g;
        first[i] = m;
        second[i] = v;
        weight[i] = kept * weight[i] - rate * m / (std::sqrt(v) / root + epsilon);
    }
}
