// Cached keys and values of a layer, and numbers of few bits in it (model/cache_formats.py).
#pragma once
#include "products.h"

enum Kept : int64_t { EIGHT = 4, FOUR = 5 };

// Element (row, head, slot, feature) lies at row · row_stride + head · head_stride + slot · slot_stride + feature, the
// same for keys and values; of four bits an element is two features. Numbers of few bits have so many scales for each
// slot (one in fp32 of eight bits; scales and lows in fp16 of four), and are widened to fp32 or bf16 to be looked at.
struct Cache {
    void *keys, *values;
    int64_t number, row_stride, head_stride, slot_stride;
    void *key_scales, *value_scales;
    int64_t key_scale_count, value_scale_count, widened;

    bool few() const { return number >= EIGHT; }
};

// Keep a key and a value (size) in the slot at `place`.
void keep_few(const Cache &cache, int64_t place, const float *key, const float *value, int64_t size);

// Keys and values of `count` slots from `place` on as fp32 or bf16 (count, size).
void widen_few(const Cache &cache, int64_t place, int64_t count, int64_t size, void *keys, void *values);
