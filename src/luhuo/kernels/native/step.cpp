// Tokens of several rows of a cache, one of each or some, through a whole stack of plain decoder blocks (RMSNorm,
// rotating halves, grouped queries, SwiGLU) and the output matrix. All threads walk through the layers together and meet
// five times a layer (`team.h`); what is cheap (norms, rounding activations) each does for itself. The residual stream
// and all sums are fp32.
#include <cmath>
#include <cstring>
#include <memory>
#include <omp.h>
#include "attention.h"
#include "cache.h"
#include "products.h"
#include "team.h"

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
    Matrix table, head;
    int64_t number;  // of the states: embeddings are rounded to it
};

// New tokens, by their ids; each goes into a slot of a row of the cache, those of one row in order; cos and sin
// (positions, size) fp32, the sine's first half with the minus sign; adapters: the slot of each token's adapter, or
// null; chosen: the tokens whose logits are wanted.
struct Tokens {
    int64_t count;
    const int64_t *ids, *rows, *slots;
    const float *cos, *sin;
    const int64_t *adapters;
    int64_t chosen_count;
    const int64_t *chosen;

    // Whether some row has more than one of them, so that tokens look at others of this pass.
    bool several() const {
        for (int64_t i = 1; i < count; i++)
            if (rows[i] == rows[i - 1]) return true;
        return false;
    }
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

// Of one token: which it is, and one key head with its queries.
struct Place {
    const Stack &stack;
    const Layer &layer;
    const Cache &cache;
    const Tokens &tokens;
    int64_t token, kv_head;

    int64_t group() const { return stack.heads / stack.kv_heads; }
    int64_t width() const { return (stack.heads + 2 * stack.kv_heads) * stack.size; }
    int64_t row() const { return tokens.rows[token] * cache.row_stride + kv_head * cache.head_stride; }

    void turned(float *x, const void *norm, int64_t head) const {
        int64_t at = tokens.slots[token] * stack.size;
        if (norm) normalise(x, norm, layer.norm_number, head * layer.head_stride, stack.eps, x, stack.size);
        turn(x, tokens.cos + at, tokens.sin + at, stack.size);
    }

    // The new key and value go to the cache.
    void keep(float *qkv) const {
        int64_t size = stack.size, end = row() + tokens.slots[token] * cache.slot_stride;
        float *key = qkv + token * width() + (stack.heads + kv_head) * size, *value = key + stack.kv_heads * size;
        turned(key, layer.key_norm, kv_head);
        if (cache.few()) {
            keep_few(cache, end, key, value, size);
        } else {
            store(cache, cache.keys, end, key, size);
            store(cache, cache.values, end, value, size);
        }
    }

    // The queries look at all of the row up to the token itself.
    void look(float *qkv, Room &room, float *mixed) const {
        int64_t size = stack.size, first = kv_head * group(), count = tokens.slots[token] + 1;
        float *queries = qkv + token * width() + first * size;
        float *to = mixed + (token * stack.heads + first) * size;
        for (int64_t head = first; head < first + group(); head++) {
            float *query = queries + (head - first) * size;
            turned(query, layer.query_norm, head);
            for (int64_t j = 0; j < size; j++) query[j] *= stack.scale;
        }
        if (cache.few()) {
            room.keys.resize(count * size);
            room.values.resize(count * size);
            widen_few(cache, row(), count, size, room.keys.data(), room.values.data());
            attend_all(cache.widened, room.keys.data(), room.values.data(), size, count, group(), size, queries,
                       room.shares, to);
            return;
        }
        int64_t width = cache.number == FLOAT ? sizeof(float) : sizeof(bf16);
        attend_all(cache.number, (const char *)cache.keys + row() * width, (const char *)cache.values + row() * width,
                   cache.slot_stride, count, group(), size, queries, room.shares, to);
    }
};

// What one thread does; `input`, `normed` and `room` are its own.
struct Worker {
    const Stack &stack;
    const Tokens &tokens;
    Shared &shared;
    Member member;
    int64_t count;
    Activations input;
    std::vector<float> normed, added, low;
    Room room;

    Worker(const Stack &stack, const Tokens &tokens, Shared &shared, Team &team, int64_t self)
        : stack(stack), tokens(tokens), shared(shared), member(team, self), count(tokens.count),
          normed(count * stack.hidden), added(count * stack.hidden) {}

    // Units of a matrix that are worked on at a time. What adapters add is begun anew for each piece.
    int64_t piece(int64_t units) const {
        if (tokens.adapters) return (units + member.threads() - 1) / member.threads();
        int64_t most = units / (16 * member.threads()) * 2;  // one row of activations takes two at once
        return most < 2 ? 2 : most > 16 ? 16 : most;
    }

    // Makes `input` what a matrix wants of rows that begin `stride` numbers apart; of one in two factors, the first's
    // products, of which every thread makes a part.
    void enter(const Matrix &first, const Matrix &matrix, const float *from, int64_t rows, int64_t stride) {
        if (!first.rows) {
            input.prepare(matrix, from, rows, stride);
            return;
        }
        input.prepare(first, from, rows, stride);
        member.share(first.units(), piece(first.units()), [&](int64_t begin, int64_t end) {
            product(first, input, shared.low.data(), first.rows, begin, end);
        });
        member.meet();
        input.prepare(matrix, shared.low.data(), rows, first.rows);
    }

    void norm_into(const Matrix &first, const Matrix &matrix, const void *weight, int64_t kind) {
        for (int64_t i = 0; i < count; i++)
            normalise(shared.x.data() + i * stack.hidden, weight, kind, 0, stack.eps, normed.data() + i * stack.hidden,
                      stack.hidden);
        enter(first, matrix, normed.data(), count, stack.hidden);
    }

    void multiply(const Matrix &matrix, float *y, const Update &on) {
        member.share(matrix.units(), piece(matrix.units()), [&](int64_t begin, int64_t end) {
            product(matrix, input, y, matrix.rows, begin, end);
            adapt(on, matrix, normed.data(), stack.hidden, y, begin, end);
        });
    }

    // The rows of the units begin … end of what adapters add; `from` are the activations of `input`, not rounded. Each
    // thread computes a x whole: it is a hundredth of the matrix, and waiting for one another would take longer.
    template <typename Kept>
    void update(const Update &update, const Matrix &matrix, const float *from, int64_t stride, float *y,
                int64_t begin, int64_t end) {
        int64_t first = begin * UNIT, last = end * UNIT < matrix.rows ? end * UNIT : matrix.rows;
        low.resize(update.rank);
        for (int64_t i = 0; i < count; i++) {
            if (!tokens.adapters[i]) continue;
            const Kept *a = (const Kept *)update.a + tokens.adapters[i] * update.rank * matrix.columns;
            const Kept *b = (const Kept *)update.b + tokens.adapters[i] * update.rank * matrix.rows;
            for (int64_t r = 0; r < update.rank; r++)
                low[r] = dot(from + i * stride, a + r * matrix.columns, matrix.columns);
            float *to = y + i * matrix.rows;
            for (int64_t row = first; row < last; row++) to[row] += dot(low.data(), b + row * update.rank, update.rank);
        }
    }

    void adapt(const Update &on, const Matrix &matrix, const float *from, int64_t stride, float *y, int64_t begin,
               int64_t end) {
        if (!tokens.adapters || !on.rank) return;
        if (on.number == FLOAT) update<float>(on, matrix, from, stride, y, begin, end);
        else update<bf16>(on, matrix, from, stride, y, begin, end);
    }

    // The matrix times rows that begin `stride` numbers apart, added to the residual stream.
    void multiply_add(const Matrix &first, const Matrix &matrix, const Update &on, const float *from, int64_t stride) {
        enter(first, matrix, from, count, stride);
        member.share(matrix.units(), piece(matrix.units()), [&](int64_t begin, int64_t end) {
            product(matrix, input, added.data(), stack.hidden, begin, end);
            adapt(on, matrix, from, stride, added.data(), begin, end);
            int64_t last = end * UNIT < stack.hidden ? end * UNIT : stack.hidden;
            for (int64_t i = 0; i < count; i++)
                for (int64_t j = begin * UNIT; j < last; j++)
                    shared.x[i * stack.hidden + j] += added[i * stack.hidden + j];
        });
    }

    void attend(const Layer &layer, const Cache &cache, bool several) {
        auto each = [&](auto work) {
            member.share(count * stack.kv_heads, 1, [&](int64_t task, int64_t) {
                work(Place{stack, layer, cache, tokens, task / stack.kv_heads, task % stack.kv_heads});
            });
        };
        float *qkv = shared.qkv.data(), *mixed = shared.mixed.data();
        if (several) {
            each([&](const Place &place) { place.keep(qkv); });
            member.meet();
        }
        each([&](const Place &place) {
            if (!several) place.keep(qkv);
            place.look(qkv, room, mixed);
        });
    }

    // silu(gate) · up in place of the gate, for the rows first … last of both.
    void activate(int64_t first, int64_t last) {
        for (int64_t i = 0; i < count; i++) {
            float *gates = shared.both.data() + i * 2 * stack.inner, *ups = gates + stack.inner;
#pragma omp simd
            for (int64_t j = first; j < last; j++) gates[j] = gates[j] / (1.0f + exponential(-gates[j])) * ups[j];
        }
    }

    void gate(const Matrix &matrix, const Update &on) {
        float *both = shared.both.data();
        if (stack.inner % UNIT) {  // gate and up do not begin at a unit together
            multiply(matrix, both, on);
            member.meet();
            member.share(stack.inner, 64, [&](int64_t begin, int64_t end) { activate(begin, end); });
            return;
        }
        int64_t units = stack.inner / UNIT;
        member.share(units, piece(units), [&](int64_t begin, int64_t end) {
            for (int64_t from : {begin, units + begin}) {
                product(matrix, input, both, matrix.rows, from, from + end - begin);
                adapt(on, matrix, normed.data(), stack.hidden, both, from, from + end - begin);
            }
            activate(begin * UNIT, end * UNIT);
        });
    }

    void run(const Cache *caches, bool several, float *logits) {
        for (int64_t l = 0; l < stack.layers; l++) {
            const Layer &layer = stack.blocks[l];
            norm_into(layer.qkv_in, layer.qkv, layer.attention_norm, layer.norm_number);
            multiply(layer.qkv, shared.qkv.data(), layer.on_qkv);
            member.meet();
            attend(layer, caches[l], several);
            member.meet();
            multiply_add(layer.out_in, layer.out, layer.on_out, shared.mixed.data(), stack.heads * stack.size);
            member.meet();
            norm_into(layer.gate_up_in, layer.gate_up, layer.mlp_norm, layer.norm_number);
            gate(layer.gate_up, layer.on_gate_up);
            member.meet();
            multiply_add(layer.down_in, layer.down, layer.on_down, shared.both.data(), 2 * stack.inner);
            member.meet();
        }
        for (int64_t i = 0; i < tokens.chosen_count; i++)
            normalise(shared.x.data() + tokens.chosen[i] * stack.hidden, stack.norm, stack.norm_number, 0, stack.eps,
                      normed.data() + i * stack.hidden, stack.hidden);
        input.prepare(stack.head, normed.data(), tokens.chosen_count, stack.hidden);
        member.share(stack.head.units(), piece(stack.head.units()), [&](int64_t begin, int64_t end) {
            product(stack.head, input, logits, stack.head.rows, begin, end);
        });
    }
};

// Pieces of shared work in a layer, each of which has a counter: eleven at most, with two factors everywhere.
static const int64_t WORKS = 12;

// logits (chosen_count, vocabulary) fp32.
extern "C" void decode_step(const Stack *stack, const Cache *caches, const Tokens *tokens, float *logits) {
    Shared shared;
    int64_t count = tokens->count;
    shared.x.resize(count * stack->hidden);
    for (int64_t i = 0; i < count; i++) {
        float *x = shared.x.data() + i * stack->hidden;
        matrix_row(stack->table, tokens->ids[i], x);
        for (int64_t j = 0; j < stack->hidden && stack->number == BRAIN; j++) x[j] = widen(narrow(x[j]));
    }
    shared.qkv.resize(count * stack->blocks[0].qkv.rows);
    shared.mixed.resize(count * stack->heads * stack->size);
    shared.both.resize(count * 2 * stack->inner);
    int64_t widest = 0;
    for (int64_t l = 0; l < stack->layers; l++)
        for (const Matrix &first : {stack->blocks[l].qkv_in, stack->blocks[l].out_in, stack->blocks[l].gate_up_in,
                                    stack->blocks[l].down_in})
            widest = first.rows > widest ? first.rows : widest;
    shared.low.resize(count * widest);
    bool several = tokens->several();
    std::unique_ptr<Team> team;
#pragma omp parallel
    {
#pragma omp single
        team.reset(new Team(omp_get_num_threads(), WORKS * (stack->layers + 1)));
        Worker worker(*stack, *tokens, shared, *team, omp_get_thread_num());
        worker.run(caches, several, logits);
    }
}
