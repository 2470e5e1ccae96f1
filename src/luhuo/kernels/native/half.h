// Numbers in fp16 (IEEE 754 binary16) as bits.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

static inline float of_half(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = (uint32_t)(bits & 0x7fff) << 13;
    float value, magic = 5.192296858534828e33f;  // 2^112: moves the exponent's bias, and makes subnormals right
    std::memcpy(&value, &rest, 4);
    value *= magic;
    uint32_t whole;
    std::memcpy(&whole, &value, 4);
    whole |= sign;
    std::memcpy(&value, &whole, 4);
    return value;
}

// To the nearest, ties to even, of a finite number that fp16 can hold.
static inline uint16_t to_half(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    float size = std::fabs(x);
    if (size < 6.103515625e-05f) return sign | (uint16_t)std::nearbyint(size * 16777216.0f);  // subnormal: units of 2^-24
    bits &= 0x7fffffff;
    bits += 0xfff + (bits >> 13 & 1);
    return sign | (uint16_t)((bits >> 13) - (112 << 10));
}
