// One token a row through a whole stack of plain decoder blocks (RMSNorm, rotating halves, grouped queries, SwiGLU) and
// the output matrix. All threads walk through the layers together and wait for one another five times a layer; what is
// cheap (norms, rounding activations) each does for itself. The residual stream and all sums are fp32.
#include <cmath>
#include <cstring>
#include <omp.h>
#include "attention.h"
#include "cache.h"
#include "products.h"

// What adapters add to one matrix: a row of slot s gets b[s] a[s] x beside the product, slot 0 nothing. a (slots, rank,
// columns), b (slots, rows, rank).
struct Update {
    const void *a, *b;
    int64_t rank, number;
};

struct Layer {
    const void *attention_norm, *mlp_norm, *query_norm, *key_norm;
    int64_t norm_number, head_stride;  // numbers from one head's norm weight to the next: 0 where they share it
    Matrix qkv, out, gate_up, down;
    Update on_qkv, on_out, on_gate_up, on_down;
    Matrix qkv_in, out_in, gate_up_in, down_in;  // of those kept as two factors the first; of no rows for the others
};

struct Stack {
    int64_t layers, hidden, inner, heads, kv_heads, size;
    float eps, scale;
    const void *norm;
    int64_t norm_number;
    const Layer *blocks;
    Matrix head;
};

// What the threads share.
struct Shared {
    std::vector<float> x, qkv, mixed, both, low;
};

static void normalise(const float *x, const void *weight, int64_t kind, int64_t place, float eps, float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += x[j] * x[j];
    float r = 1.0f / std::sqrt(sum / n + eps);
    if (kind == FLOAT) {
        const float *w = (const float *)weight + place;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = x[j] * r * w[j];
    } else {
        const bf16 *w = (const bf16 *)weight + place;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = x[j] * r * widen(w[j]);
    }
}

static void turn(float *x, const float *cos, const float *sin, int64_t size) {
    int64_t half = size / 2;
#pragma omp simd
    for (int64_t j = 0; j < half; j++) {
        float a = x[j], b = x[j + half];
        x[j] = a * cos[j] + b * sin[j];
        x[j + half] = b * cos[j + half] + a * sin[j + half];
    }
}

static inline void store(const Cache &c, void *to, int64_t place, const float *x, int64_t n) {
    if (c.number == FLOAT) std::memcpy((float *)to + place, x, n * sizeof(float));
    else
        for (int64_t j = 0; j < n; j++) ((bf16 *)to)[place + j] = narrow(x[j]);
}

// What a thread needs to look at a cache.
struct Room {
    std::vector<float> shares, keys, values;
};

// One key head of one row: its new key and value go to the cache, its queries look at all of it.
static void attend_group(const Stack &stack, const Layer &layer, const Cache &cache, float *qkv, const float *cos,
                         const float *sin, int64_t row, int64_t kv_head, int64_t slot, Room &room, float *mixed) {
    int64_t size = stack.size, group = stack.heads / stack.kv_heads;
    float *key = qkv + (stack.heads + kv_head) * size, *value = key + stack.kv_heads * size;
    if (layer.key_norm)
        normalise(key, layer.key_norm, layer.norm_number, kv_head * layer.head_stride, stack.eps, key, size);
    turn(key, cos, sin, size);
    int64_t place = row * cache.row_stride + kv_head * cache.head_stride;
    int64_t end = place + slot * cache.slot_stride;
    if (cache.few()) {
        keep_few(cache, end, key, value, size);
    } else {
        store(cache, cache.keys, end, key, size);
        store(cache, cache.values, end, value, size);
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        float *query = qkv + head * size;
        if (layer.query_norm)
            normalise(query, layer.query_norm, layer.norm_number, head * layer.head_stride, stack.eps, query, size);
        turn(query, cos, sin, size);
        for (int64_t j = 0; j < size; j++) query[j] *= stack.scale;
    }
    int64_t first = kv_head * group * size, count = slot + 1;
    float *queries = qkv + first, *to = mixed + first;
    if (cache.few()) {
        room.keys.resize(count * size);
        room.values.resize(count * size);
        widen_few(cache, place, count, size, room.keys.data(), room.values.data());
        attend_all(cache.widened, room.keys.data(), room.values.data(), size, count, group, size, queries,
                   room.shares, to);
        return;
    }
    int64_t width = cache.number == FLOAT ? sizeof(float) : sizeof(bf16);
    attend_all(cache.number, (const char *)cache.keys + place * width, (const char *)cache.values + place * width,
               cache.slot_stride, count, group, size, queries, room.shares, to);
}

struct Share {
    int64_t begin, end;
    Share(int64_t count, int64_t thread, int64_t threads)
        : begin(count * thread / threads), end(count * (thread + 1) / threads) {}
};

// What one thread does; `input`, `normed` and `room` are its own.
struct Worker {
    const Stack &stack;
    Shared &shared;
    const int64_t *adapters;  // the slot of each row; null: none has one
    int64_t count, thread, threads;
    Activations input;
    std::vector<float> normed, added, low;
    Room room;

    Worker(const Stack &stack, Shared &shared, const int64_t *adapters, int64_t count, int64_t thread, int64_t threads)
        : stack(stack), shared(shared), adapters(adapters), count(count), thread(thread), threads(threads),
          normed(count * stack.hidden), added(count * stack.hidden) {}

    // Makes `input` what a matrix wants of rows that begin `stride` numbers apart; of one in two factors, the first's
    // products, of which every thread makes a part.
    void enter(const Matrix &first, const Matrix &matrix, const float *from, int64_t stride) {
        if (!first.rows) {
            input.prepare(matrix, from, count, stride);
            return;
        }
        input.prepare(first, from, count, stride);
        Share mine(first.units(), thread, threads);
        product(first, input, shared.low.data(), first.rows, mine.begin, mine.end);
#pragma omp barrier
        input.prepare(matrix, shared.low.data(), count, first.rows);
    }

    void norm_into(const Matrix &first, const Matrix &matrix, const void *weight, int64_t kind) {
        for (int64_t i = 0; i < count; i++)
            normalise(shared.x.data() + i * stack.hidden, weight, kind, 0, stack.eps, normed.data() + i * stack.hidden,
                      stack.hidden);
        enter(first, matrix, normed.data(), stack.hidden);
    }

    void multiply(const Matrix &matrix, float *y, const Update *on = nullptr) {
        Share mine(matrix.units(), thread, threads);
        product(matrix, input, y, matrix.rows, mine.begin, mine.end);
        if (on) adapt(*on, matrix, normed.data(), stack.hidden, y, mine.begin, mine.end);
    }

    // The rows of the units begin … end of what adapters add; `from` are the activations of `input`, not rounded. Each
    // thread computes a x whole: it is a hundredth of the matrix, and waiting for one another would take longer.
    template <typename Kept>
    void update(const Update &update, const Matrix &matrix, const float *from, int64_t stride, float *y,
                int64_t begin, int64_t end) {
        int64_t first = begin * UNIT, last = end * UNIT < matrix.rows ? end * UNIT : matrix.rows;
        low.resize(update.rank);
        for (int64_t i = 0; i < count; i++) {
            if (!adapters[i]) continue;
            const Kept *a = (const Kept *)update.a + adapters[i] * update.rank * matrix.columns;
            const Kept *b = (const Kept *)update.b + adapters[i] * update.rank * matrix.rows;
            for (int64_t r = 0; r < update.rank; r++)
                low[r] = dot(from + i * stride, a + r * matrix.columns, matrix.columns);
            float *to = y + i * matrix.rows;
            for (int64_t row = first; row < last; row++) to[row] += dot(low.data(), b + row * update.rank, update.rank);
        }
    }

    void adapt(const Update &on, const Matrix &matrix, const float *from, int64_t stride, float *y, int64_t begin,
               int64_t end) {
        if (!adapters || !on.rank) return;
        if (on.number == FLOAT) update<float>(on, matrix, from, stride, y, begin, end);
        else update<bf16>(on, matrix, from, stride, y, begin, end);
    }

    // The matrix times rows that begin `stride` numbers apart, added to this thread's part of the residual stream.
    void multiply_add(const Matrix &first, const Matrix &matrix, const Update &on, const float *from, int64_t stride) {
        enter(first, matrix, from, stride);
        Share mine(matrix.units(), thread, threads);
        product(matrix, input, added.data(), stack.hidden, mine.begin, mine.end);
        adapt(on, matrix, from, stride, added.data(), mine.begin, mine.end);
        int64_t end = mine.end * UNIT < stack.hidden ? mine.end * UNIT : stack.hidden;
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = mine.begin * UNIT; j < end; j++)
                shared.x[i * stack.hidden + j] += added[i * stack.hidden + j];
    }

    void attend(const Layer &layer, const Cache &cache, const int64_t *slots, const float *cos, const float *sin) {
        Share mine(count * stack.kv_heads, thread, threads);
        int64_t width = (stack.heads + 2 * stack.kv_heads) * stack.size;
        for (int64_t task = mine.begin; task < mine.end; task++) {
            int64_t row = task / stack.kv_heads;
            attend_group(stack, layer, cache, shared.qkv.data() + row * width, cos + row * stack.size,
                         sin + row * stack.size, row, task % stack.kv_heads, slots[row], room,
                         shared.mixed.data() + row * stack.heads * stack.size);
        }
    }

    // silu(gate) · up in place of the gate, for this thread's rows of both.
    void gate(const Matrix &matrix, const Update &on) {
        int64_t inner = stack.inner, units = inner / UNIT;
        Share mine(units, thread, threads);
        int64_t first = mine.begin * UNIT, last = thread + 1 == threads ? inner : mine.end * UNIT;
        if (inner % UNIT) {  // gate and up do not begin at a unit together
            multiply(matrix, shared.both.data(), &on);
#pragma omp barrier
        } else {
            product(matrix, input, shared.both.data(), matrix.rows, mine.begin, mine.end);
            product(matrix, input, shared.both.data(), matrix.rows, units + mine.begin, units + mine.end);
            adapt(on, matrix, normed.data(), stack.hidden, shared.both.data(), mine.begin, mine.end);
            adapt(on, matrix, normed.data(), stack.hidden, shared.both.data(), units + mine.begin, units + mine.end);
        }
        for (int64_t i = 0; i < count; i++) {
            float *gates = shared.both.data() + i * 2 * inner, *ups = gates + inner;
#pragma omp simd
            for (int64_t j = first; j < last; j++) gates[j] = gates[j] / (1.0f + exponential(-gates[j])) * ups[j];
        }
    }

    void run(const Cache *caches, const int64_t *slots, const float *cos, const float *sin, float *logits) {
        for (int64_t l = 0; l < stack.layers; l++) {
            const Layer &layer = stack.blocks[l];
            norm_into(layer.qkv_in, layer.qkv, layer.attention_norm, layer.norm_number);
            multiply(layer.qkv, shared.qkv.data(), &layer.on_qkv);
#pragma omp barrier
            attend(layer, caches[l], slots, cos, sin);
#pragma omp barrier
            multiply_add(layer.out_in, layer.out, layer.on_out, shared.mixed.data(), stack.heads * stack.size);
#pragma omp barrier
            norm_into(layer.gate_up_in, layer.gate_up, layer.mlp_norm, layer.norm_number);
            gate(layer.gate_up, layer.on_gate_up);
#pragma omp barrier
            multiply_add(layer.down_in, layer.down, layer.on_down, shared.both.data(), 2 * stack.inner);
#pragma omp barrier
        }
        norm_into(Matrix{}, stack.head, stack.norm, stack.norm_number);
        multiply(stack.head, logits);
    }
};

// x (count, hidden) fp32 holds the embeddings; logits (count, vocabulary) fp32; slots: where each row's token goes in
// the cache; cos and sin (count, size) fp32 at its position, the sine's first half with the minus sign; adapters: the
// slot of each row's adapter, or null.
extern "C" void decode_step(const Stack *stack, const Cache *caches, const float *x, const int64_t *slots,
                            const float *cos, const float *sin, const int64_t *adapters, float *logits,
                            int64_t count) {
    Shared shared;
    shared.x.assign(x, x + count * stack->hidden);
    shared.qkv.resize(count * stack->blocks[0].qkv.rows);
    shared.mixed.resize(count * stack->heads * stack->size);
    shared.both.resize(count * 2 * stack->inner);
    int64_t widest = 0;
    for (int64_t l = 0; l < stack->layers; l++)
        for (const Matrix &first : {stack->blocks[l].qkv_in, stack->blocks[l].out_in, stack->blocks[l].gate_up_in,
                                    stack->blocks[l].down_in})
            widest = first.rows > widest ? first.rows : widest;
    shared.low.resize(count * widest);
#pragma omp parallel
    {
        Worker worker(*stack, shared, adapters, count, omp_get_thread_num(), omp_get_num_threads());
        worker.run(caches, slots, cos, sin, logits);
    }
}
