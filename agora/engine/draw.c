/* One token of each row of logits. Called by batch_sampling.py; sampling.py is the plain twin.
 *
 * Shapes: N rows, V vocabulary.
 */
#include <math.h>
#include <stdint.h>

#include "../model/numbers.h"

#define PART 128 /* tokens whose probabilities are summed together: a draw looks for its part first */
#define SIMD _Pragma("omp simd")

/* The most likely token, the first of equals; its logit to `top`. -1 where a logit is NaN. */
static int64_t most_likely(const float *x, int64_t V, float *top) {
    float largest = -INFINITY;
    int broken = 0;
    _Pragma("omp simd reduction(max : largest) reduction(| : broken)") for (int64_t v = 0; v < V; v++) {
        largest = x[v] > largest ? x[v] : largest;
        broken |= x[v] != x[v];
    }
    *top = largest;
    if (broken) return -1;
    for (int64_t first = 0; first < V; first += PART) {
        int64_t end = first + PART < V ? first + PART : V;
        int found = 0;
        _Pragma("omp simd reduction(| : found)") for (int64_t v = first; v < end; v++) found |= x[v] == largest;
        if (!found) continue;
        for (int64_t v = first; v < end; v++)
            if (x[v] == largest) return v;
    }
    return 0;
}

/* The token at `point` (0 to 1) of the row's probabilities, one after the other in the order of the vocabulary. Overwrites the row. */
static int64_t drawn(float *x, int64_t V, float top, float temperature, double point) {
    int64_t parts = (V + PART - 1) / PART, part = 0, token = -1;
    double sums[parts], total = 0, before = 0;
    for (int64_t p = 0; p < parts; p++) {
        int64_t end = (p + 1) * PART < V ? (p + 1) * PART : V;
        double sum = 0;
        SIMD for (int64_t v = p * PART; v < end; v++) {
            float power = (x[v] - top) / temperature;
            x[v] = power > -87.0f ? exponential(power) : 0; /* a forbidden token is at -infinity */
        }
        _Pragma("omp simd reduction(+ : sum)") for (int64_t v = p * PART; v < end; v++) sum += x[v];
        total += sums[p] = sum;
    }
    double wanted = point * total;
    while (part + 1 < parts && before + sums[part] <= wanted) before += sums[part++];
    /* rounding may put the point beyond the last token: then that one */
    while (part > 0 && sums[part] == 0) before -= sums[--part];
    for (int64_t v = part * PART; v < V && v < (part + 1) * PART; v++) {
        if (x[v] == 0) continue;
        token = v;
        if ((before += x[v]) > wanted) break;
    }
    return token;
}

/* tokens (N): the most likely token where a temperature is 0, else the one at that row's point; -1 where a logit is NaN.
 * `forbidden` tokens are taken out of `logits` (N, V) first. */
void draw_rows(float *logits, int64_t N, int64_t V, const int64_t *forbidden, int64_t num_forbidden, const float *temperatures,
               const double *points, int64_t *tokens) {
    for (int64_t n = 0; n < N; n++) {
        float *row = logits + n * V, top;
        for (int64_t i = 0; i < num_forbidden; i++) row[forbidden[i]] = -INFINITY;
        tokens[n] = most_likely(row, V, &top);
        if (tokens[n] >= 0 && temperatures[n] > 0) tokens[n] = drawn(row, V, top, temperatures[n], points[n]);
    }
}
