/* Numbers that kernels.c and engine/decode.c share: bfloat16 and a fast exponential. */
#pragma once
#include <stdint.h>

typedef uint16_t bf16;

static inline float wide(bf16 x) {
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}

/* Round to nearest even. A quiet NaN stays a NaN, except one whose eight upper mantissa bits are all ones. */
static inline bf16 narrow(float x) {
    union { float value; uint32_t bits; } u = {x};
    return (bf16)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}

/* exp for x <= 88, relative error below 3e-7: 2^n times a degree-6 polynomial on [-ln2/2, ln2/2]. Below -87 gives about 1e-38. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union { float value; int32_t bits; } u = {p};
    u.bits += (int32_t)n << 23;
    return u.value;
}
