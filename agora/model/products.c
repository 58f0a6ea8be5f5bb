/* Products of bfloat16 matrices, summed in float32 and rounded once, for processors with AVX512_BF16 and without a matrix unit
 * (AMX), where they come closer to the peak than the library that torch calls. fast.py holds the checks and the twin, torch.mm.
 *
 * The instruction multiplies pairs: two neighbours along the summed axis K. One operand is packed beforehand into panels of
 * WIDTH columns, pair by pair, (N / WIDTH, K / 2, WIDTH, 2); the other is read where it lies (its rows hold the pairs), or packed
 * block by block when K is its first axis. A tile of TILE x WIDTH sums stays in registers over a whole range of K.
 *
 * Names: out (M, N) = left (M, K) times right (K, N); everything is row-major. `threads` as in kernels.c; each tile is
 * one thread's and summed in a fixed order, so that results do not depend on the number of threads.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
#define WIDTH 64  /* columns of a panel: 4 registers */
#define TILE 6    /* rows of a tile: 24 sums, 4 columns and 1 row value fill 29 of 32 registers; 8 x 48 and 12 x 32 were slower */
#define BLOCK 96  /* rows of a block */
#define DEPTH 1536 /* of K in a block: left block and right panel, 480 KiB, stay in a core's second cache */

/* Whether this build has the products. */
int has_products(void) {
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    return 1;
#else
    return 0;
#endif
}

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#include <immintrin.h>

#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL16 _Pragma("GCC unroll 16")
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t num_pairs(int64_t k) { return (k + 1) / 2; }
static inline uint32_t pair(bf16 first, bf16 second) { return first | (uint32_t)second << 16; }

/* right (K, N) -> panels; missing rows and columns become 0. */
void pack_right(const bf16 *right, uint32_t *panels, int64_t K, int64_t N, int threads) {
    int64_t pairs = num_pairs(K);
    #pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t first = 0; first < N; first += WIDTH)
        for (int64_t p = 0; p < pairs; p++) {
            int64_t width = least(WIDTH, N - first), has_second = 2 * p + 1 < K;
            const bf16 *one = right + 2 * p * N + first, *other = has_second ? one + N : one;
            uint32_t *out = panels + first * pairs + p * WIDTH, keep = has_second ? 0xffffffff : 0xffff;
            for (int64_t n = 0; n < width; n++) out[n] = pair(one[n], other[n]) & keep;
            for (int64_t n = width; n < WIDTH; n++) out[n] = 0;
        }
}

/* Turn a 16 x 16 square: at each step, halves of its blocks of `step` rows and columns change places. */
static inline __attribute__((always_inline)) void turn_square(__m512i *rows) {
    UNROLL16 for (int step = 1; step < 16; step *= 2) {
        int32_t low[16], high[16];
        for (int i = 0; i < 16; i++) {
            low[i] = i & step ? 16 + i - step : i;
            high[i] = i & step ? 16 + i : i + step;
        }
        __m512i low_from = _mm512_loadu_si512(low), high_from = _mm512_loadu_si512(high);
        UNROLL16 for (int i = 0; i < 16; i++) {
            if (i & step) continue;
            __m512i one = rows[i], other = rows[i + step];
            rows[i] = _mm512_permutex2var_epi32(one, low_from, other);
            rows[i + step] = _mm512_permutex2var_epi32(one, high_from, other);
        }
    }
}

/* The same from right transposed, (N, K), K even: whole pairs move, in squares. */
void pack_right_transposed(const uint32_t *right, uint32_t *panels, int64_t K, int64_t N, int threads) {
    int64_t pairs = K / 2, columns = (N + WIDTH - 1) / WIDTH * WIDTH;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < columns; first += 16)
        for (int64_t begin = 0; begin < pairs; begin += 16) {
            int64_t height = least(16, pairs - begin);
            __m512i square[16];
            UNROLL16 for (int i = 0; i < 16; i++) {
                __mmask16 present = first + i < N ? (1 << height) - 1 : 0;
                square[i] = _mm512_maskz_loadu_epi32(present, right + (first + i) * pairs + begin);
            }
            turn_square(square);
            uint32_t *out = panels + first / WIDTH * WIDTH * pairs + begin * WIDTH + first % WIDTH;
            UNROLL16 for (int i = 0; i < 16; i++)
                if (i < height) _mm512_storeu_si512(out + i * WIDTH, square[i]);
        }
}

/* Columns first..first+count of left transposed, (K, M), rows begin..end -> tiles of TILE columns, pair by pair. */
static void pack_left(const bf16 *left, uint32_t *tiles, int64_t M, int64_t first, int64_t count, int64_t begin, int64_t end) {
    int64_t pairs = num_pairs(end - begin);
    for (int64_t p = 0; p < pairs; p++) {
        int64_t has_second = begin + 2 * p + 1 < end;
        const bf16 *one = left + (begin + 2 * p) * M + first, *other = has_second ? one + M : one;
        uint32_t row[BLOCK] = {0}, keep = has_second ? 0xffffffff : 0xffff;
        for (int64_t m = 0; m < count; m++) row[m] = pair(one[m], other[m]) & keep;
        for (int64_t m = 0; m < count; m += TILE) memcpy(tiles + m * pairs + p * TILE, row + m, TILE * sizeof(uint32_t));
    }
}

/* Where a tile reads and writes: value (row r, pair p) of left is left[r * row_step + p * pair_step]. */
typedef struct {
    const uint32_t *left, *panel;
    int64_t row_step, pair_step, pairs;
    float *sums; /* TILE x WIDTH part of a matrix with sums_step columns; NULL when nothing is added or kept in float32 */
    bf16 *out;   /* NULL when the sums are the result */
    int64_t sums_step, out_step, width;
    int is_first, is_last;
} Tile;

static inline __attribute__((always_inline)) void multiply_tile(const Tile *t, const int rows) {
    __m512 sums[TILE][4];
    __mmask64 columns = t->width == WIDTH ? ~0ULL : (1ULL << t->width) - 1;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < 4; c++)
            sums[r][c] = t->is_first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(columns >> 16 * c, t->sums + r * t->sums_step + 16 * c);
    const uint32_t *left = t->left, *panel = t->panel;
    for (int64_t p = 0; p < t->pairs; p++, left += t->pair_step, panel += WIDTH) {
        __m512bh right[4];
        UNROLL for (int c = 0; c < 4; c++) right[c] = (__m512bh)_mm512_loadu_si512(panel + 16 * c);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh value = (__m512bh)_mm512_set1_epi32((int)left[r * t->row_step]);
            UNROLL for (int c = 0; c < 4; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], value, right[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < 4; c++) {
            __mmask16 mask = columns >> 16 * c;
            if (t->is_last && t->out)
                _mm256_mask_storeu_epi16(t->out + r * t->out_step + 16 * c, mask, (__m256i)_mm512_cvtneps_pbh(sums[r][c]));
            else
                _mm512_mask_storeu_ps(t->sums + r * t->sums_step + 16 * c, mask, sums[r][c]);
        }
}

static void multiply_rows(const Tile *t, int64_t rows) {
    switch (rows) {
        case 6: multiply_tile(t, 6); break;
        case 5: multiply_tile(t, 5); break;
        case 4: multiply_tile(t, 4); break;
        case 3: multiply_tile(t, 3); break;
        case 2: multiply_tile(t, 2); break;
        default: multiply_tile(t, 1);
    }
}

/* What `multiply` was given. */
typedef struct {
    const bf16 *left;
    const uint32_t *panels;
    bf16 *out;
    float *sums;
    int64_t M, K, N, is_transposed;
} Product;

/* Rows first..first+count of the result over begin..end of K. `tiles` and `partial` are a thread's working space, NULL when not needed. */
static void multiply_block(const Product *x, uint32_t *tiles, float *partial, int64_t first, int64_t count, int64_t begin, int64_t end) {
    int64_t N = x->N;
    Tile t = {.pairs = num_pairs(end - begin), .out_step = N, .sums_step = N, .is_first = begin == 0 && !x->sums, .is_last = end == x->K};
    if (tiles) pack_left(x->left, tiles, x->M, first, count, begin, end);
    t.row_step = tiles ? 1 : x->K / 2;
    t.pair_step = tiles ? TILE : 1;
    for (int64_t n = 0; n < N; n += WIDTH)
        for (int64_t m = 0; m < count; m += TILE) {
            t.left = tiles ? tiles + m * t.pairs : (const uint32_t *)(x->left + (first + m) * x->K + begin);
            t.panel = x->panels + n * num_pairs(x->K) + begin / 2 * WIDTH;
            t.sums = x->sums ? x->sums + (first + m) * N + n : partial ? partial + m * N + n : 0;
            t.out = x->out ? x->out + (first + m) * N + n : 0;
            t.width = least(WIDTH, N - n);
            multiply_rows(&t, least(TILE, count - m));
        }
}

/* out = left times right, or with `sums` (M, N) float32 and no out: sums += left times right. `left` is (M, K) with K even, or (K, M) when
 * is_transposed; right is packed. Returns 0, or 1 when there was no memory for the working space. */
int multiply(const bf16 *left, const uint32_t *panels, bf16 *out, float *sums, int64_t M, int64_t K, int64_t N, int64_t is_transposed,
             int threads) {
    const Product x = {left, panels, out, sums, M, K, N, is_transposed};
    int64_t is_parted = K > DEPTH && !sums, failed = 0;
    /* equal shares up to a tile: whole blocks dealt out would leave a core idle for 3% of the time at 4096 rows */
    int64_t share = ((M + TILE - 1) / TILE + threads - 1) / threads * TILE;
    #pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : failed)
    for (int64_t start = 0; start < M; start += share) {
        int64_t stop = least(start + share, M);
        uint32_t *tiles = is_transposed ? aligned_alloc(64, BLOCK * DEPTH * sizeof(bf16)) : 0;
        float *partial = is_parted ? aligned_alloc(64, BLOCK * ((N + 15) / 16 * 16) * sizeof(float)) : 0;
        int is_ready = !(is_transposed && !tiles) && !(is_parted && !partial);
        for (int64_t first = start; first < stop && is_ready; first += BLOCK)
            for (int64_t begin = 0; begin < K; begin += DEPTH)
                multiply_block(&x, tiles, partial, first, least(BLOCK, stop - first), begin, least(begin + DEPTH, K));
        failed += !is_ready;
        free(tiles);
        free(partial);
    }
    return failed != 0;
}
#endif
