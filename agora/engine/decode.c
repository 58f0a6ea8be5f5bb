/* One step of generation on a CPU: rows of tokens in, keys and values into pages, logits out. Called by native.py, which packs the weights;
 * plain.py is the plain twin.
 *
 * A row is one token of one sequence at one position; a step mixes rows of many sequences and several rows of one (a part of a prompt).
 * Whatever else is in a step, a row's numbers are summed in the same order, so its logits are the same bit for bit.
 *
 * Weights are float32, bfloat16, or bytes in groups of GROUP along the summed axis with a bfloat16 scale each; for bytes the activations are
 * rounded to bytes in the same groups, per row (both as in Q8_0 of llama.cpp). Sums of products of bytes are exact; the rest is float32.
 *
 * Names: N rows, C dim, D head_dim, R = D / 2, H query heads, K key-value heads, G = H / K, F hidden_dim, V vocabulary, L layers,
 * I summed axis, O outputs. Pages hold PAGE positions: keys (pages, K, D, PAGE), values (pages, K, PAGE, D), per layer.
 * Panels: outputs in WIDTH columns, (O / WIDTH, I / pack, WIDTH, pack) with pack = 1, 2, 4 weights side by side (float32, bfloat16, bytes).
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../model/numbers.h"
#if defined(__x86_64__) && !defined(AGORA_PLAIN) /* tests compare all that this processor can run */
#include <immintrin.h>
#endif
#if defined(__AVX512VNNI__) && !defined(AGORA_PLAIN)
#define HAS_BYTES 1
#else
#define HAS_BYTES 0
#endif
#if HAS_BYTES && defined(__AVX512BF16__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

#define PAGE 16
#define SPAN 128 /* positions that attention looks at together: their scores stay in the first cache */
#define GROUP 32
#define WIDTH 32
#define TILE 6 /* rows that share a read of the weights: 6 x 2 sums, twice for bytes, fill 24 of 32 registers */
#define PAIR_TILE (HAS_PAIRS ? 12 : 5) /* the same for pairs of bfloat16 */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 12")
#define SIMD _Pragma("omp simd")
#define EACH _Pragma("omp for schedule(static)")

/* Sixteen neighbours. */
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

/* As many as one register holds. */
#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t LaneWords __attribute__((vector_size(4 * LANES)));

/* Activations of a product, rounded as the weights are, in the form that this processor multiplies. */
#if HAS_PAIRS
typedef bf16 Rounded;
#define ROUNDED(x) narrow(x)
#else
typedef float Rounded;
#define ROUNDED(x) wide(narrow(x))
#endif
#if HAS_BYTES
typedef int8_t Level;
#define LEVEL_PLACE(i) (i)
#else
typedef int16_t Level; /* four neighbours as 0 2 1 3: products of even and of odd bytes are added in pairs */
#define LEVEL_PLACE(i) (((i) & ~3) | ((i) & 1) << 1 | ((i) >> 1 & 1))
#endif

enum { FLOAT32, BFLOAT16, BYTES };

typedef struct {
    int64_t kind, L, C, H, K, D, F, V, pages;
    float eps;
} Shape;

typedef struct {
    const void *panels;
    const bf16 *scales; /* (O / WIDTH, I / GROUP, WIDTH); NULL unless bytes */
} Matrix;

typedef struct {
    const float *attention_norm;
    Matrix qkv;
    const float *query_norm, *key_norm;
    Matrix out;
    const float *feed_forward_norm;
    Matrix gate_up, down;
} Layer;

typedef struct {
    const void *embedding; /* (V, C): float32, else bfloat16 */
    const float *norm;
    Matrix head;
    const float *cosines, *sines; /* (positions, R) */
    const Layer *layers;
} Weights;

/* Rows of activations as a product reads them: float32, Rounded, or Level with a scale and -128 times the sum of each group. */
typedef struct {
    void *values;
    float *scales;
    int32_t *offsets;
} Activations;

typedef struct {
    int64_t N, logit_rows;
    const int64_t *tokens, *positions, *sequence; /* (N): token, position, row of `tables` */
    const int64_t *tables;                        /* (sequences, table_width): pages in order */
    int64_t table_width;
    const int64_t *wanted; /* (logit_rows): rows whose logits are wanted */
    void *keys, *values;   /* bfloat16, float32 when weights are */
    float *stream, *wide_out, *mixed, *logits;
    Activations in;
} Step;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- activations ---- */

/* GROUP numbers as whole ones from -127 to 127 (nearest, ties to even) times the scale that is returned; it is NaN where one of them is. */
#if HAS_BYTES
INLINE float round_group(const float *x, Level *out, int32_t *offset) {
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    __mmask16 broken = _mm512_cmp_ps_mask(low, high, _CMP_UNORD_Q);
    float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0);
    __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)), q1 = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((__m128i *)out + 1, _mm512_cvtepi32_epi8(q1));
    *offset = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
    return broken ? NAN : largest / 127.0f;
}
#else
INLINE float round_group(const float *x, Level *out, int32_t *offset) {
    float largest = 0;
    int32_t sum = 0, broken = 0;
    _Pragma("omp simd reduction(max : largest) reduction(| : broken)") for (int i = 0; i < GROUP; i++) {
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        broken |= x[i] != x[i];
    }
    float inverse = largest > 0 ? 127.0f / largest : 0;
    _Pragma("omp simd reduction(+ : sum)") for (int i = 0; i < GROUP; i++) {
        int32_t q = (int32_t)((x[i] * inverse + 12582912.0f) - 12582912.0f);
        out[LEVEL_PLACE(i)] = (Level)q;
        sum += q;
    }
    *offset = -128 * sum;
    return broken ? NAN : largest / 127.0f;
}
#endif

static void store_row(const Shape *s, const Activations *a, int64_t row, const float *x, int64_t I) {
    if (s->kind == FLOAT32) {
        memcpy((float *)a->values + row * I, x, I * sizeof(float));
    } else if (s->kind == BFLOAT16) {
        Rounded *out = (Rounded *)a->values + row * I;
        SIMD for (int64_t i = 0; i < I; i++) out[i] = ROUNDED(x[i]);
    } else {
        Level *out = (Level *)a->values + row * I;
        float *scales = a->scales + row * (I / GROUP);
        int32_t *offsets = a->offsets + row * (I / GROUP);
        for (int64_t g = 0; g < I / GROUP; g++) scales[g] = round_group(x + g * GROUP, out + g * GROUP, offsets + g);
    }
}

static void store_normed(const Shape *s, const Activations *a, int64_t row, const float *x, const float *weight, float *room) {
    float sum = 0;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t c = 0; c < s->C; c++) sum += x[c] * x[c];
    float inverse = 1.0f / sqrtf(sum / s->C + s->eps);
    SIMD for (int64_t c = 0; c < s->C; c++) room[c] = x[c] * inverse * weight[c];
    store_row(s, a, row, room, s->C);
}

/* ---- products ---- */

/* What `rows` rows of a product share: WIDTH outputs of each, to `out` (rows out_step apart), added to what is there when `adds`. */
typedef struct {
    const void *panel;
    const char *ahead; /* weights to ask memory for meanwhile, ahead_step bytes for each 64 of a row's weights; 0 asks for nothing new */
    const bf16 *scales;
    const void *x;
    const float *x_scales;
    const int32_t *x_offsets;
    int64_t I, out_step, width;
    float *out;
    int adds, ahead_step;
} Tile;

INLINE void finish_plain(const Tile *t, int r, int first, int count, const float *sums) {
    float *out = t->out + r * t->out_step + first;
    for (int64_t o = 0; o < least(count, t->width - first); o++) out[o] = t->adds ? out[o] + sums[o] : sums[o];
}

#if HAS_BYTES
INLINE void finish(const Tile *t, int r, int c, __m512 sum) {
    __mmask16 mask = (__mmask16)(t->width >= 16 * (c + 1) ? 0xffff : t->width <= 16 * c ? 0 : (1 << (t->width - 16 * c)) - 1);
    float *out = t->out + r * t->out_step + 16 * c;
    _mm512_mask_storeu_ps(out, mask, t->adds ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), sum) : sum);
}

INLINE void multiply_bytes(const Tile *t, const int rows) {
    const uint8_t *w = t->panel;
    const int8_t *x = t->x;
    const char *ahead = t->ahead;
    int64_t groups = t->I / GROUP;
    __m512 sums[TILE][2];
    UNROLL for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++, w += GROUP * WIDTH, x += GROUP) {
        __m512i dots[TILE][2];
        UNROLL for (int r = 0; r < rows; r++) dots[r][0] = dots[r][1] = _mm512_set1_epi32(t->x_offsets[r * groups + g]);
        UNROLL for (int i = 0; i < GROUP / 4; i++) {
            if (rows > 4) __builtin_prefetch(ahead, 0, 2);
            ahead += t->ahead_step;
            __m512i w0 = _mm512_loadu_si512(w + i * 128), w1 = _mm512_loadu_si512(w + i * 128 + 64);
            UNROLL for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, x + r * t->I + 4 * i, 4);
                __m512i value = _mm512_set1_epi32(four);
                dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], w0, value);
                dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], w1, value);
            }
        }
        const __m256i *scales = (const __m256i *)(t->scales + g * WIDTH);
        __m512 s0 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(scales)), 16));
        __m512 s1 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(scales + 1)), 16));
        UNROLL for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(t->x_scales[r * groups + g]);
            sums[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][0]), _mm512_mul_ps(s0, scale), sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][1]), _mm512_mul_ps(s1, scale), sums[r][1]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        finish(t, r, 0, sums[r][0]);
        finish(t, r, 1, sums[r][1]);
    }
}
#elif defined(__AVX2__) && !defined(AGORA_PLAIN)
INLINE void multiply_bytes(const Tile *t, const int rows) {
    const int16_t *x = t->x;
    const __m256i low = _mm256_set1_epi16(0xff);
    int64_t groups = t->I / GROUP;
    for (int part = 0; part < WIDTH; part += 8) {
        __m256 sums[TILE];
        UNROLL for (int r = 0; r < rows; r++) sums[r] = _mm256_setzero_ps();
        for (int64_t g = 0; g < groups; g++) {
            const uint8_t *w = (const uint8_t *)t->panel + g * GROUP * WIDTH + 4 * part;
            __m256i dots[TILE];
            UNROLL for (int r = 0; r < rows; r++) dots[r] = _mm256_set1_epi32(t->x_offsets[r * groups + g]);
            for (int i = 0; i < GROUP; i += 4, w += 4 * WIDTH) {
                __m256i four = _mm256_loadu_si256((const __m256i *)w), even = _mm256_and_si256(four, low), odd = _mm256_srli_epi16(four, 8);
                UNROLL for (int r = 0; r < rows; r++) {
                    int32_t two[2];
                    memcpy(two, x + r * t->I + g * GROUP + i, 8);
                    dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(even, _mm256_set1_epi32(two[0])));
                    dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(odd, _mm256_set1_epi32(two[1])));
                }
            }
            __m128i halves = _mm_loadu_si128((const __m128i *)(t->scales + g * WIDTH + part));
            __m256 scales = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
            UNROLL for (int r = 0; r < rows; r++) {
                __m256 scale = _mm256_mul_ps(scales, _mm256_set1_ps(t->x_scales[r * groups + g]));
                sums[r] = _mm256_add_ps(sums[r], _mm256_mul_ps(_mm256_cvtepi32_ps(dots[r]), scale));
            }
        }
        UNROLL for (int r = 0; r < rows; r++) finish_plain(t, r, part, 8, (const float *)&sums[r]);
    }
}
#else
INLINE void multiply_bytes(const Tile *t, const int rows) {
    int64_t groups = t->I / GROUP;
    for (int r = 0; r < rows; r++) {
        float sums[WIDTH] = {0};
        for (int64_t g = 0; g < groups; g++) {
            const uint8_t *w = (const uint8_t *)t->panel + g * GROUP * WIDTH;
            const int16_t *x = (const int16_t *)t->x + r * t->I + g * GROUP;
            int32_t dots[WIDTH];
            for (int o = 0; o < WIDTH; o++) dots[o] = t->x_offsets[r * groups + g];
            for (int i = 0; i < GROUP; i += 4, w += 4 * WIDTH)
                SIMD for (int o = 0; o < WIDTH; o++)
                    dots[o] += w[4 * o] * x[i] + w[4 * o + 1] * x[i + 2] + w[4 * o + 2] * x[i + 1] + w[4 * o + 3] * x[i + 3];
            float scale = t->x_scales[r * groups + g];
            SIMD for (int o = 0; o < WIDTH; o++) sums[o] += (float)dots[o] * (wide(t->scales[g * WIDTH + o]) * scale);
        }
        finish_plain(t, r, 0, WIDTH, sums);
    }
}
#endif

#if HAS_PAIRS
/* One chain of additions for each output, whatever the number of rows: the instruction takes six cycles and two begin in each, so six rows
 * are the fewest that keep the arithmetic busy, and with fewer memory is the limit. */
INLINE void multiply_pairs(const Tile *t, const int rows) {
    const bf16 *w = t->panel, *x = t->x;
    const char *ahead = t->ahead;
    __m512 sums[PAIR_TILE][2];
    UNROLL for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < t->I; i += 4) {
        UNROLL for (int64_t at = i; at < i + 4; at += 2, w += 2 * WIDTH, ahead += t->ahead_step) {
            if (rows > 4) __builtin_prefetch(ahead, 0, 2);
            __m512bh w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 32);
            UNROLL for (int r = 0; r < rows; r++) {
                int32_t two;
                memcpy(&two, x + r * t->I + at, 4);
                __m512bh value = (__m512bh)_mm512_set1_epi32(two);
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], w0, value);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], w1, value);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) finish(t, r, 0, sums[r][0]), finish(t, r, 1, sums[r][1]);
}
#else
INLINE void multiply_pairs(const Tile *t, const int rows) {
    const float *x = t->x;
    const int cols = rows == 1 ? WIDTH / LANES : 2; /* sums enough to hide the latency of an addition, registers enough to hold them */
    for (int part = 0; part < WIDTH; part += cols * LANES) {
        const bf16 *w = (const bf16 *)t->panel + 2 * part;
        Lanes sums[PAIR_TILE][WIDTH / LANES];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < cols; c++) sums[r][c] = (Lanes){0};
        for (int64_t i = 0; i < t->I; i += 2, w += 2 * WIDTH) {
            Lanes even[WIDTH / LANES], odd[WIDTH / LANES];
            UNROLL for (int c = 0; c < cols; c++) {
                LaneWords two;
                memcpy(&two, w + 2 * LANES * c, sizeof two);
                even[c] = (Lanes)(two << 16), odd[c] = (Lanes)(two & 0xffff0000);
            }
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < cols; c++) {
                sums[r][c] += x[r * t->I + i] * even[c];
                sums[r][c] += x[r * t->I + i + 1] * odd[c];
            }
        }
        UNROLL for (int r = 0; r < rows; r++) finish_plain(t, r, part, cols * LANES, (const float *)sums[r]);
    }
}
#endif

INLINE void multiply_floats(const Tile *t, const int rows) {
    const float *w = t->panel, *x = t->x;
    float sums[TILE][WIDTH];
    UNROLL for (int r = 0; r < rows; r++) SIMD for (int o = 0; o < WIDTH; o++) sums[r][o] = 0;
    for (int64_t i = 0; i < t->I; i++, w += WIDTH)
        UNROLL for (int r = 0; r < rows; r++) SIMD for (int o = 0; o < WIDTH; o++) sums[r][o] += w[o] * x[r * t->I + i];
    for (int r = 0; r < rows; r++) finish_plain(t, r, 0, WIDTH, sums[r]);
}

#define CASE(name, rows) case rows: name(t, rows); break;
#define BY_ROWS(name, more)                                \
    static void name##_rows(const Tile *t, int64_t rows) { \
        switch (rows) {                                    \
            more                                           \
            CASE(name, 5)                                  \
            CASE(name, 4)                                  \
            CASE(name, 3)                                  \
            CASE(name, 2)                                  \
            default: name(t, 1);                           \
        }                                                  \
    }
BY_ROWS(multiply_bytes, CASE(multiply_bytes, 6))
BY_ROWS(multiply_floats, CASE(multiply_floats, 6))
#if HAS_PAIRS
#define PAIR(rows) CASE(multiply_pairs, rows)
BY_ROWS(multiply_pairs, PAIR(12) PAIR(11) PAIR(10) PAIR(9) PAIR(8) PAIR(7) PAIR(6))
#else
BY_ROWS(multiply_pairs, )
#endif

/* out (N, O) = x (N, I) times matrix; panels are shared among the threads of the running team, which meets at the end. */
static void multiply(const Shape *s, const Matrix *m, const Activations *a, float *out, int64_t N, int64_t I, int64_t O, int adds) {
    int64_t groups = I / GROUP, most = s->kind == BFLOAT16 ? PAIR_TILE : TILE, tiles = (N + most - 1) / most;
    int64_t tile = tiles ? (N + tiles - 1) / tiles : 1; /* 8 rows of bytes: 4 and 4 rather than 6 and 2 */
    int64_t line = s->kind == BYTES ? 1 : s->kind == BFLOAT16 ? 2 : 4, size = WIDTH * I * line;
    EACH for (int64_t first = 0; first < O; first += WIDTH)
        for (int64_t n = 0; n < N; n += tile) {
            const char *panel = (const char *)m->panels + first * I * line;
            Tile t = {.I = I, .out_step = O, .width = least(WIDTH, O - first), .out = out + n * O + first, .adds = adds, .panel = panel};
            int64_t rows = least(tile, N - n), number = n / tile;
            /* with many rows the weights of the next panel are asked for while the later tiles of this one compute; with few, memory is the
             * limit already, and asking made it worse */
            int asks = number > 0 && number < 3 && tiles > 2 && first + WIDTH < O;
            t.ahead = asks ? panel + size + (number - 1) * size / 2 : panel;
            t.ahead_step = asks ? 64 : 0;
            if (s->kind == BYTES) {
                t.scales = m->scales + first * groups;
                t.x = (const Level *)a->values + n * I;
                t.x_scales = a->scales + n * groups;
                t.x_offsets = a->offsets + n * groups;
                multiply_bytes_rows(&t, rows);
            } else if (s->kind == BFLOAT16) {
                t.x = (const Rounded *)a->values + n * I;
                multiply_pairs_rows(&t, rows);
            } else {
                t.x = (const float *)a->values + n * I;
                multiply_floats_rows(&t, rows);
            }
        }
}

/* ---- attention ---- */

/* Norm a head and turn it by its position (half and half). */
INLINE void turn_head(float *x, const float *weight, const float *cosine, const float *sine, int64_t R, float eps) {
    float sum = 0;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t d = 0; d < 2 * R; d++) sum += x[d] * x[d];
    float inverse = 1.0f / sqrtf(sum / (2 * R) + eps);
    SIMD for (int64_t r = 0; r < R; r++) {
        float low = x[r] * inverse * weight[r], high = x[R + r] * inverse * weight[R + r];
        x[r] = low * cosine[r] - high * sine[r];
        x[R + r] = high * cosine[r] + low * sine[r];
    }
}

/* Where the keys (and the values) of a key head begin in the page of a position of row n. */
INLINE int64_t page_place(const Shape *s, const Step *step, int64_t layer, int64_t n, int64_t k, int64_t position) {
    int64_t page = step->tables[step->sequence[n] * step->table_width + position / PAGE] + layer * s->pages;
    return (page * s->K + k) * s->D * PAGE;
}

INLINE void ask_for_page(const Shape *s, const void *pages, int64_t place, const int is_float) {
    int64_t size = is_float ? 4 : 2, end = (place + s->D * PAGE) * size;
    for (int64_t at = place * size; at < end; at += 64) __builtin_prefetch((const char *)pages + at);
}

/* Queries are turned where they lie; keys and values of row n go into their page. */
static void place_row(const Shape *s, const Weights *w, const Layer *layer, const Step *step, int64_t index, int64_t n) {
    int64_t H = s->H, K = s->K, D = s->D, R = D / 2, position = step->positions[n], slot = position % PAGE;
    float *row = step->wide_out + n * (H + 2 * K) * D;
    const float *cosine = w->cosines + position * R, *sine = w->sines + position * R;
    for (int64_t h = 0; h < H; h++) turn_head(row + h * D, layer->query_norm, cosine, sine, R, s->eps);
    for (int64_t k = 0; k < K; k++) {
        if (n + 1 < step->N) { /* a key is written all over its page: the next row's is asked for meanwhile */
            int64_t size = s->kind == FLOAT32 ? 4 : 2, at = page_place(s, step, index, n + 1, k, step->positions[n + 1]) * size;
            for (int64_t end = at + D * PAGE * size; at < end; at += 64) __builtin_prefetch((const char *)step->keys + at, 1);
        }
        float *key = row + (H + k) * D, *value = row + (H + K + k) * D;
        turn_head(key, layer->key_norm, cosine, sine, R, s->eps);
        int64_t place = page_place(s, step, index, n, k, position);
        if (s->kind == FLOAT32) {
            for (int64_t d = 0; d < D; d++) ((float *)step->keys)[place + d * PAGE + slot] = key[d];
            memcpy((float *)step->values + place + slot * D, value, D * sizeof(float));
        } else {
            for (int64_t d = 0; d < D; d++) ((bf16 *)step->keys)[place + d * PAGE + slot] = narrow(key[d]);
            SIMD for (int64_t d = 0; d < D; d++) ((bf16 *)step->values)[place + slot * D + d] = narrow(value[d]);
        }
    }
}

/* Sixteen neighbours as float32. */
INLINE Floats load16(const void *from, int64_t place, const int is_float) {
    if (is_float) {
        Floats x;
        memcpy(&x, (const float *)from + place, sizeof x);
        return x;
    }
#if HAS_BYTES
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)((const bf16 *)from + place))), 16);
#else
    Halves x;
    memcpy(&x, (const bf16 *)from + place, sizeof x);
    return (Floats)(__builtin_convertvector(x, Words) << 16);
#endif
}

/* Scores of a page: queries (heads, D) times keys (D, PAGE). */
INLINE void score_page(const void *keys, int64_t place, const float *queries, int64_t D, float (*scores)[SPAN], const int heads, const int is_float) {
    Floats even[4] = {0}, odd[4] = {0};
    for (int64_t d = 0; d < D; d += 2) {
        Floats one = load16(keys, place + d * PAGE, is_float), other = load16(keys, place + d * PAGE + PAGE, is_float);
        UNROLL for (int h = 0; h < heads; h++) {
            even[h] += queries[h * D + d] * one;
            odd[h] += queries[h * D + d + 1] * other;
        }
    }
    UNROLL for (int h = 0; h < heads; h++) {
        even[h] += odd[h];
        memcpy(scores[h], &even[h], sizeof even[h]);
    }
}

/* Dimensions d..d + 16 * parts of out (heads, D) += shares (heads, count) times values (count, D) that lie in pages. */
INLINE void mix_part(const void *values, const int64_t *places, int64_t d, float (*shares)[SPAN], int64_t count, float *out, int64_t D,
                     const int heads, const int parts, const int is_float) {
    Floats sums[4][4];
    UNROLL for (int h = 0; h < heads; h++) UNROLL for (int c = 0; c < parts; c++) memcpy(&sums[h][c], out + h * D + d + 16 * c, sizeof(Floats));
    for (int64_t i = 0; i < count; i++)
        UNROLL for (int c = 0; c < parts; c++) {
            Floats value = load16(values, places[i / PAGE] + i % PAGE * D + d + 16 * c, is_float);
            UNROLL for (int h = 0; h < heads; h++) sums[h][c] += shares[h][i] * value;
        }
    UNROLL for (int h = 0; h < heads; h++) UNROLL for (int c = 0; c < parts; c++) memcpy(out + h * D + d + 16 * c, &sums[h][c], sizeof(Floats));
}

INLINE void mix(const void *values, const int64_t *places, float (*shares)[SPAN], int64_t count, float *out, int64_t D, const int heads,
                const int is_float) {
    int64_t d = 0;
    for (; d + 64 <= D; d += 64) mix_part(values, places, d, shares, count, out, D, heads, 4, is_float);
    for (; d + 16 <= D; d += 16) mix_part(values, places, d, shares, count, out, D, heads, 1, is_float);
    for (; d < D; d++)
        for (int64_t i = 0; i < count; i++) {
            int64_t at = places[i / PAGE] + i % PAGE * D + d;
            float value = is_float ? ((const float *)values)[at] : wide(((const bf16 *)values)[at]);
            for (int h = 0; h < heads; h++) out[h * D + d] += shares[h][i] * value;
        }
}

/* Scores of one head (`count`, then -infinity up to a whole page) become shares. What was mixed before shrinks when a larger score comes. */
INLINE void share(float *scores, int64_t count, float scale, float *largest, float *total, float *mixed, int64_t D) {
    float top = *largest, sum = 0;
    int64_t end = (count + PAGE - 1) / PAGE * PAGE;
    for (int64_t i = count; i < end; i++) scores[i] = -INFINITY;
    _Pragma("omp simd reduction(max : top)") for (int64_t i = 0; i < end; i++) {
        scores[i] *= scale;
        top = scores[i] > top ? scores[i] : top;
    }
    if (top > *largest) {
        float shrink = *largest == -INFINITY ? 0 : exponential(*largest - top);
        *total *= shrink;
        SIMD for (int64_t d = 0; d < D; d++) mixed[d] *= shrink;
        *largest = top;
    }
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < end; i++) {
        scores[i] = i < count ? exponential(scores[i] - top) : 0;
        sum += scores[i];
    }
    *total += sum;
}

/* `heads` query heads of one row that share a key head: softmax over all positions so far, SPAN at a time (Milakov & Gimelshein 2018).
 * Pages lie apart, and the processor does not foresee where the next one is: values are asked for while keys are read, and meanwhile the keys
 * of what comes next; `next` is the row and key head after this, -1 for none. */
INLINE void attend(const Shape *s, const Step *step, int64_t layer, int64_t n, int64_t k, int64_t next, const float *queries, float *out,
                   const int heads, const int is_float) {
    int64_t D = s->D, last = step->positions[n], places[SPAN / PAGE];
    float largest[4], total[4], scale = 1.0f / sqrtf((float)D), scores[4][SPAN];
    for (int h = 0; h < heads; h++) largest[h] = -INFINITY, total[h] = 0;
    memset(out, 0, heads * D * sizeof(float));
    for (int64_t first = 0; first <= last; first += SPAN) {
        int64_t count = least(SPAN, last + 1 - first);
        for (int64_t i = 0; i < count; i += PAGE) {
            int64_t place = places[i / PAGE] = page_place(s, step, layer, n, k, first + i);
            ask_for_page(s, step->values, place, is_float);
            score_page(step->keys, place, queries, D, (float (*)[SPAN])&scores[0][i], heads, is_float);
        }
        int64_t row = n, head = k, from = first + SPAN;
        if (from > last) row = next / s->K, head = next % s->K, from = 0;
        if (next >= 0 || from)
            for (int64_t i = from; i <= least(step->positions[row], from + SPAN - 1); i += PAGE)
                ask_for_page(s, step->keys, page_place(s, step, layer, row, head, i), is_float);
        for (int h = 0; h < heads; h++) share(scores[h], count, scale, &largest[h], &total[h], out + h * D, D);
        mix(step->values, places, scores, count, out, D, heads, is_float);
    }
    for (int h = 0; h < heads; h++) {
        float inverse = 1.0f / total[h];
        SIMD for (int64_t d = 0; d < D; d++) out[h * D + d] *= inverse;
    }
}

#define ATTEND(is_float)                                                                                   \
    (more == 4   ? attend(s, step, layer, n, k, next, queries + g * D, out + g * D, 4, is_float)          \
     : more == 2 ? attend(s, step, layer, n, k, next, queries + g * D, out + g * D, 2, is_float)          \
                 : attend(s, step, layer, n, k, next, queries + g * D, out + g * D, 1, is_float))
static void attend_row(const Shape *s, const Step *step, int64_t layer, int64_t n, int64_t k) {
    int64_t D = s->D, G = s->H / s->K, pair = n * s->K + k, next = pair + 1 < step->N * s->K ? pair + 1 : -1;
    const float *queries = step->wide_out + (n * (s->H + 2 * s->K) + k * G) * D;
    float *out = step->mixed + (n * s->H + k * G) * D;
    for (int64_t g = 0, more; g < G; g += more) {
        more = G - g >= 4 ? 4 : G - g >= 2 ? 2 : 1;
        if (s->kind == FLOAT32)
            ATTEND(1);
        else
            ATTEND(0);
    }
}
#undef ATTEND

/* ---- the step ---- */

static void run_layer(const Shape *s, const Weights *w, const Step *step, int64_t index) {
    const Layer *layer = w->layers + index;
    int64_t N = step->N, C = s->C, Q = s->H * s->D, X = (s->H + 2 * s->K) * s->D, F = s->F;
    EACH for (int64_t n = 0; n < N; n++) {
        float room[C];
        store_normed(s, &step->in, n, step->stream + n * C, layer->attention_norm, room);
    }
    multiply(s, &layer->qkv, &step->in, step->wide_out, N, C, X, 0);
    EACH for (int64_t n = 0; n < N; n++) place_row(s, w, layer, step, index, n);
    EACH for (int64_t pair = 0; pair < N * s->K; pair++) attend_row(s, step, index, pair / s->K, pair % s->K);
    EACH for (int64_t n = 0; n < N; n++) store_row(s, &step->in, n, step->mixed + n * Q, Q);
    multiply(s, &layer->out, &step->in, step->stream, N, Q, C, 1);
    EACH for (int64_t n = 0; n < N; n++) {
        float room[C];
        store_normed(s, &step->in, n, step->stream + n * C, layer->feed_forward_norm, room);
    }
    multiply(s, &layer->gate_up, &step->in, step->wide_out, N, C, 2 * F, 0);
    EACH for (int64_t n = 0; n < N; n++) {
        float *gate = step->wide_out + n * 2 * F, *up = gate + F;
        SIMD for (int64_t f = 0; f < F; f++) gate[f] = gate[f] / (1.0f + exponential(-gate[f] < 88.0f ? -gate[f] : 88.0f)) * up[f];
        store_row(s, &step->in, n, gate, F);
    }
    multiply(s, &layer->down, &step->in, step->stream, N, F, C, 1);
}

/* Run one step; logits are (logit_rows, V). */
void decode_step(const Shape *s, const Weights *w, const Step *step, int threads) {
    int64_t C = s->C;
    #pragma omp parallel num_threads(threads)
    {
        EACH for (int64_t n = 0; n < step->N; n++) {
            float *row = step->stream + n * C;
            int64_t token = step->tokens[n];
            if (s->kind == FLOAT32)
                memcpy(row, (const float *)w->embedding + token * C, C * sizeof(float));
            else
                SIMD for (int64_t c = 0; c < C; c++) row[c] = wide(((const bf16 *)w->embedding)[token * C + c]);
        }
        for (int64_t index = 0; index < s->L; index++) run_layer(s, w, step, index);
        EACH for (int64_t n = 0; n < step->logit_rows; n++) {
            float room[C];
            store_normed(s, &step->in, n, step->stream + step->wanted[n] * C, w->norm, room);
        }
        multiply(s, &w->head, &step->in, step->logits, step->logit_rows, C, s->V, 0);
    }
}
