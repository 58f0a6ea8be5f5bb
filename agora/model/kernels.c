/* Element-wise passes of a training step on a CPU, fused. bfloat16 in and out, float32 inside. Called through ctypes by
 * fast.py, which holds the shapes and the checks; operations.py is the plain twin of each function.
 *
 * Names: N rows (batch x positions), C channels, D head_dim, R = D / 2, H query heads, K key-value heads, G = H / K, T positions,
 * F hidden_dim, V vocabulary. `threads` is torch's number of threads. Each row is handled by one thread, and sums over
 * rows are kept per thread, so that a result depends on the number of threads and on nothing else.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#include "numbers.h"

#define ROWS _Pragma("omp parallel for num_threads(threads) schedule(static)")
#define LOOP _Pragma("omp simd")

/* stream = x + delta (delta may be NULL); normed = weight * stream / rms(stream); inverse_rms is kept for backward. */
void add_norm_forward(const bf16 *x, const bf16 *delta, const bf16 *weight, bf16 *stream, bf16 *normed, float *inverse_rms,
                      int64_t N, int64_t C, float eps, int threads) {
    ROWS
    for (int64_t n = 0; n < N; n++) {
        const bf16 *row = x + n * C;
        float sum = 0;
        if (delta) {
            const bf16 *add = delta + n * C;
            bf16 *out = stream + n * C;
            #pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < C; c++) {
                bf16 rounded = narrow(wide(row[c]) + wide(add[c]));
                out[c] = rounded;
                sum += wide(rounded) * wide(rounded);
            }
            row = out;
        } else {
            #pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < C; c++) sum += wide(row[c]) * wide(row[c]);
        }
        float inverse = 1.0f / sqrtf(sum / C + eps);
        inverse_rms[n] = inverse;
        LOOP
        for (int64_t c = 0; c < C; c++) normed[n * C + c] = narrow(wide(row[c]) * inverse * wide(weight[c]));
    }
}

/* grad_x (shared by x and delta) = grad_stream (may be NULL) + gradient through the norm; grad_weight holds one row per thread. */
void add_norm_backward(const bf16 *grad_normed, const bf16 *grad_stream, const bf16 *stream, const bf16 *weight,
                       const float *inverse_rms, bf16 *grad_x, float *grad_weight, int64_t N, int64_t C, int threads) {
    ROWS
    for (int64_t n = 0; n < N; n++) {
        const bf16 *grad = grad_normed + n * C, *row = stream + n * C;
        float inverse = inverse_rms[n], dot = 0, *partial = grad_weight + THREAD * C;
        #pragma omp simd reduction(+ : dot)
        for (int64_t c = 0; c < C; c++) {
            float product = wide(grad[c]) * wide(row[c]) * inverse;
            partial[c] += product;
            dot += product * wide(weight[c]);
        }
        float shrink = dot / C * inverse;
        const bf16 *more = grad_stream ? grad_stream + n * C : 0;
        if (more) {
            LOOP
            for (int64_t c = 0; c < C; c++)
                grad_x[n * C + c] = narrow(wide(more[c]) + inverse * (wide(grad[c]) * wide(weight[c]) - wide(row[c]) * shrink));
        } else {
            LOOP
            for (int64_t c = 0; c < C; c++)
                grad_x[n * C + c] = narrow(inverse * (wide(grad[c]) * wide(weight[c]) - wide(row[c]) * shrink));
        }
    }
}

static void head_forward(const bf16 *in, const bf16 *weight, const float *cosine, const float *sine, bf16 *out, int64_t R, float eps) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < 2 * R; d++) sum += wide(in[d]) * wide(in[d]);
    float inverse = 1.0f / sqrtf(sum / (2 * R) + eps);
    LOOP
    for (int64_t r = 0; r < R; r++) {
        float low = wide(in[r]) * inverse * wide(weight[r]), high = wide(in[R + r]) * inverse * wide(weight[R + r]);
        out[r] = narrow(low * cosine[r] - high * sine[r]);
        out[R + r] = narrow(high * cosine[r] + low * sine[r]);
    }
}

/* From one row per position, [H queries | K keys | K values], to q (B,K,T,G,D), k and v (B,K,T,D); queries and keys normed, rotated. */
void heads_forward(const bf16 *qkv, const bf16 *query_weight, const bf16 *key_weight, const float *cosines, const float *sines,
                   bf16 *q, bf16 *k, bf16 *v, int64_t B, int64_t T, int64_t H, int64_t K, int64_t R, float eps, int threads) {
    int64_t D = 2 * R, G = H / K;
    ROWS
    for (int64_t n = 0; n < B * T; n++) {
        int64_t b = n / T, t = n % T;
        const bf16 *row = qkv + n * (H + 2 * K) * D;
        for (int64_t h = 0; h < H; h++) {
            bf16 *out = q + (((b * K + h / G) * T + t) * G + h % G) * D;
            head_forward(row + h * D, query_weight, cosines + t * R, sines + t * R, out, R, eps);
        }
        for (int64_t h = 0; h < K; h++) {
            int64_t place = ((b * K + h) * T + t) * D;
            head_forward(row + (H + h) * D, key_weight, cosines + t * R, sines + t * R, k + place, R, eps);
            memcpy(v + place, row + (H + K + h) * D, D * sizeof(bf16));
        }
    }
}

static void head_backward(const bf16 *grad, const bf16 *in, const bf16 *weight, const float *cosine, const float *sine,
                          bf16 *grad_in, float *grad_weight, int64_t R, float eps) {
    float sum = 0, dot = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < 2 * R; d++) sum += wide(in[d]) * wide(in[d]);
    float inverse = 1.0f / sqrtf(sum / (2 * R) + eps);
    float turned[2 * R];
    #pragma omp simd reduction(+ : dot)
    for (int64_t r = 0; r < R; r++) {
        float low = wide(grad[r]), high = wide(grad[R + r]);
        float back_low = low * cosine[r] + high * sine[r], back_high = high * cosine[r] - low * sine[r];
        float product_low = back_low * wide(in[r]) * inverse, product_high = back_high * wide(in[R + r]) * inverse;
        grad_weight[r] += product_low;
        grad_weight[R + r] += product_high;
        turned[r] = back_low * wide(weight[r]);
        turned[R + r] = back_high * wide(weight[R + r]);
        dot += product_low * wide(weight[r]) + product_high * wide(weight[R + r]);
    }
    float shrink = dot / (2 * R) * inverse;
    LOOP
    for (int64_t d = 0; d < 2 * R; d++) grad_in[d] = narrow(inverse * (turned[d] - wide(in[d]) * shrink));
}

/* The way back of heads_forward; grad_weights holds one row per thread: query then key weights. */
void heads_backward(const bf16 *grad_q, const bf16 *grad_k, const bf16 *grad_v, const bf16 *qkv, const bf16 *query_weight,
                    const bf16 *key_weight, const float *cosines, const float *sines, bf16 *grad_qkv, float *grad_weights,
                    int64_t B, int64_t T, int64_t H, int64_t K, int64_t R, float eps, int threads) {
    int64_t D = 2 * R, G = H / K, X = (H + 2 * K) * D;
    ROWS
    for (int64_t n = 0; n < B * T; n++) {
        int64_t b = n / T, t = n % T;
        const bf16 *row = qkv + n * X;
        bf16 *out = grad_qkv + n * X;
        float *partial = grad_weights + THREAD * 2 * D;
        for (int64_t h = 0; h < H; h++) {
            const bf16 *grad = grad_q + (((b * K + h / G) * T + t) * G + h % G) * D;
            head_backward(grad, row + h * D, query_weight, cosines + t * R, sines + t * R, out + h * D, partial, R, eps);
        }
        for (int64_t h = 0; h < K; h++) {
            int64_t place = ((b * K + h) * T + t) * D, at = (H + h) * D;
            head_backward(grad_k + place, row + at, key_weight, cosines + t * R, sines + t * R, out + at, partial + D, R, eps);
            memcpy(out + (H + K + h) * D, grad_v + place, D * sizeof(bf16));
        }
    }
}

/* Between (B,K,T,G,D) and (B,T,K,G,D); `back` turns the direction. */
void swap_heads(const bf16 *in, bf16 *out, int64_t B, int64_t T, int64_t K, int64_t width, int64_t back, int threads) {
    ROWS
    for (int64_t n = 0; n < B * T; n++)
        for (int64_t k = 0; k < K; k++) {
            int64_t apart = (((n / T) * K + k) * T + n % T) * width, together = (n * K + k) * width;
            memcpy(out + (back ? apart : together), in + (back ? together : apart), width * sizeof(bf16));
        }
}

/* Scores -> probabilities in place, for queries first..first+Q of every row; scores are (B*K, Q*G, S) and S keys from 0.
 * A query sees keys from its document's start (starts NULL: 0) to itself; every other entry becomes 0. */
void softmax_forward(bf16 *scores, const int64_t *starts, int64_t B, int64_t K, int64_t Q, int64_t G, int64_t S, int64_t first,
                     int64_t T, float scale, int threads) {
    ROWS
    for (int64_t n = 0; n < B * K * Q * G; n++) {
        bf16 *row = scores + n * S;
        int64_t b = n / (K * Q * G), t = first + n / G % Q, start = starts ? starts[b * T + t] : 0;
        float peak = -INFINITY, sum = 0, powers[S];
        #pragma omp simd reduction(max : peak)
        for (int64_t s = start; s <= t; s++) {
            float score = wide(row[s]);
            peak = score > peak ? score : peak;
        }
        #pragma omp simd reduction(+ : sum)
        for (int64_t s = start; s <= t; s++) {
            float power = exponential((wide(row[s]) - peak) * scale);
            powers[s] = power;
            sum += power;
        }
        float inverse = 1.0f / sum;
        memset(row, 0, start * sizeof(bf16));
        LOOP
        for (int64_t s = start; s <= t; s++) row[s] = narrow(powers[s] * inverse);
        memset(row + t + 1, 0, (S - t - 1) * sizeof(bf16));
    }
}

/* Gradient of probabilities -> gradient of scores, in place; entries that a query cannot see become 0. */
void softmax_backward(bf16 *grad, const bf16 *probabilities, const int64_t *starts, int64_t B, int64_t K, int64_t Q, int64_t G, int64_t S,
                      int64_t first, int64_t T, float scale, int threads) {
    ROWS
    for (int64_t n = 0; n < B * K * Q * G; n++) {
        bf16 *row = grad + n * S;
        const bf16 *p = probabilities + n * S;
        int64_t b = n / (K * Q * G), t = first + n / G % Q, start = starts ? starts[b * T + t] : 0;
        float dot = 0;
        #pragma omp simd reduction(+ : dot)
        for (int64_t s = start; s <= t; s++) dot += wide(p[s]) * wide(row[s]);
        memset(row, 0, start * sizeof(bf16));
        LOOP
        for (int64_t s = start; s <= t; s++) row[s] = narrow(wide(p[s]) * (wide(row[s]) - dot) * scale);
        memset(row + t + 1, 0, (S - t - 1) * sizeof(bf16));
    }
}

void swiglu_forward(const bf16 *gate_up, bf16 *out, int64_t N, int64_t F, int threads) {
    ROWS
    for (int64_t n = 0; n < N; n++) {
        const bf16 *gate = gate_up + n * 2 * F, *up = gate + F;
        LOOP
        for (int64_t f = 0; f < F; f++) {
            float g = wide(gate[f]), bounded = g < -80.0f ? -80.0f : g;
            out[n * F + f] = narrow(g / (1.0f + exponential(-bounded)) * wide(up[f]));
        }
    }
}

void swiglu_backward(const bf16 *grad, const bf16 *gate_up, bf16 *grad_gate_up, int64_t N, int64_t F, int threads) {
    ROWS
    for (int64_t n = 0; n < N; n++) {
        const bf16 *gate = gate_up + n * 2 * F, *up = gate + F, *row = grad + n * F;
        bf16 *grad_gate = grad_gate_up + n * 2 * F, *grad_up = grad_gate + F;
        LOOP
        for (int64_t f = 0; f < F; f++) {
            float g = wide(gate[f]), bounded = g < -80.0f ? -80.0f : g, d = wide(row[f]);
            float sigmoid = 1.0f / (1.0f + exponential(-bounded)), silu = g * sigmoid;
            grad_up[f] = narrow(d * silu);
            grad_gate[f] = narrow(d * wide(up[f]) * (sigmoid + silu - silu * sigmoid));
        }
    }
}

/* losses[n] = -log softmax(logits[n])[target] (0 where the target is negative); with needs_grad the logits become their gradient times
 * scale. */
void softmax_loss(bf16 *logits, const int64_t *targets, float *losses, int64_t N, int64_t V, float scale, int64_t needs_grad, int threads) {
    ROWS
    for (int64_t n = 0; n < N; n++) {
        bf16 *row = logits + n * V;
        int64_t target = targets[n];
        if (target < 0) {
            losses[n] = 0;
            if (needs_grad) memset(row, 0, V * sizeof(bf16));
            continue;
        }
        float peak = -INFINITY, sum = 0, powers[V];
        #pragma omp simd reduction(max : peak)
        for (int64_t v = 0; v < V; v++) {
            float logit = wide(row[v]);
            peak = logit > peak ? logit : peak;
        }
        #pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < V; v++) {
            float power = exponential(wide(row[v]) - peak);
            powers[v] = power;
            sum += power;
        }
        losses[n] = logf(sum) + peak - wide(row[target]);
        if (!needs_grad) continue;
        float share = scale / sum;
        LOOP
        for (int64_t v = 0; v < V; v++) row[v] = narrow(powers[v] * share);
        row[target] = narrow(powers[target] * share - scale);
    }
}

/* sums[thread] += squares of its part of x. */
void sum_squares(const bf16 *x, double *sums, int64_t N, int threads) {
    int64_t step = 4096; /* float32 within a step, double across steps */
    ROWS
    for (int64_t first = 0; first < N; first += step) {
        int64_t last = first + step < N ? first + step : N;
        float sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t n = first; n < last; n++) sum += wide(x[n]) * wide(x[n]);
        sums[THREAD] += sum;
    }
}

/* One step of AdamW (Loshchilov & Hutter 2019, algorithm 2) over N numbers, in one pass: gradients in, masters and moments stepped,
 * working weights out. keep = 1 - rate * decay; step = rate / (1 - beta1^t); root = 1 / sqrt(1 - beta2^t). */
void adamw(float *master, float *mean, float *square, const bf16 *gradient, bf16 *working, int64_t N, float scale, float beta1, float beta2,
           float keep, float step, float root, float eps, int threads) {
    _Pragma("omp parallel for simd num_threads(threads) schedule(static)")
    for (int64_t n = 0; n < N; n++) {
        float g = wide(gradient[n]) * scale;
        float m = mean[n] + (1 - beta1) * (g - mean[n]), v = beta2 * square[n] + (1 - beta2) * g * g;
        float w = master[n] * keep - step * m / (sqrtf(v) * root + eps);
        mean[n] = m;
        square[n] = v;
        master[n] = w;
        working[n] = narrow(w);
    }
}
