// A weight matrix in one of its forms, and the rows of activations it is multiplied by.
#pragma once
#include <cstdint>
#include <vector>
#include "lanes.h"

// Rows of a matrix that are worked on together, and that lie together where the weights are packed.
static const int64_t UNIT = 16;

enum Form : int64_t { FP32 = 0, BF16 = 1, INT8 = 2, INT4 = 3, ROUNDED = 4, SPARSE = 5, E4M3 = 6 };
enum Number : int64_t { NONE = 0, FLOAT = 1, BRAIN = 2, HALF = 3 };

// fp32 and bf16: (rows, columns) as they are. int8, int4 and E4M3 (floats of 8 bits): see packed.py for how they are
// packed; columns are then filled up with zeros to whole groups. w = scale · q, or scale · q + low where there are lows.
// Rounded: (rows, columns) int8 for activations of 8 bits (eight_bit.cpp), one fp32 scale a row. Sparse: two of four
// values (sparse.cpp), in groups of 32 columns.
struct Matrix {
    int64_t form, rows, columns, group;
    const void *weight, *scale;
    int64_t scale_number;
    const void *low;
    int64_t low_number;
    const int32_t *order;  // which activation belongs to each column, if not the one at its place
    const void *bias;
    int64_t bias_number;
    const int32_t *sums;       // of a rounded matrix: of each row's integers
    const float *input_scale;  // of its activations; null: each row of them has its own
    double threshold;          // above it they are not rounded; infinite: all are

    int64_t padded() const { return group ? (columns + group - 1) / group * group : columns; }
    int64_t units() const { return (rows + UNIT - 1) / UNIT; }
};

// Activations as a matrix needs them: bf16, fp32 for one in fp32, 8 bits for a rounded one; their sums by group where
// the matrix has lows.
struct Activations {
    std::vector<bf16> narrow;
    std::vector<float> wide, sums;
    std::vector<uint8_t> bytes;   // rounded, plus 128
    std::vector<float> scales;    // theirs (count)
    std::vector<int64_t> places;  // of what is not rounded, row by row; those of row i begin at starts[i]
    std::vector<int64_t> starts;
    std::vector<float> apart;  // what is not rounded
    int64_t count = 0;

    // From x (count, matrix.columns), `stride` numbers apart.
    void prepare(const Matrix &matrix, const float *x, int64_t count, int64_t stride);
};

// y (count, rows), `stride` numbers apart: rows of the units begin … end of a product, bias included.
void product(const Matrix &matrix, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end);

// One row of a matrix, whole numbers and floats of 8 bits times their scales: to (columns).
void matrix_row(const Matrix &matrix, int64_t row, float *to);

float number_at(const void *numbers, int64_t kind, int64_t place);

// Parts of the two above, for one form each; rows first … last, or units begin … end.
void round_activations(const Matrix &matrix, Activations &x);
void rounded_product(const Matrix &matrix, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last);
void brain_product(const Matrix &matrix, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last);
void float_product(const Matrix &matrix, const Activations &x, float *y, int64_t stride, int64_t first, int64_t last);
void sparse_product(const Matrix &matrix, const Activations &x, float *y, int64_t stride, int64_t begin, int64_t end);
