/* Real functions without a C library: single precision, the same bits on every IEEE machine. */
#ifndef REAL_H
#define REAL_H

#include "../core/bytes.h"

#define REAL_LN2 0.69314718f

/* The root, rounded to nearest; 0 of what is not above the smallest normal number. Where the processor has one: its own. */
float real_root(float x);
#if defined __SSE_MATH__ || defined __aarch64__ || defined __riscv_flen || (defined __ARM_FP && __ARM_FP & 4)
static inline float real_sqrt(float x) { return __builtin_sqrtf(x); }
#else
static inline float real_sqrt(float x) { return real_root(x); }
#endif

float real_log(float x);  /* x > 0; relative error below 2e-6 */
float real_exp(float x);  /* 0 below −87, the largest at 88 */
float real_sinh(float x);
void real_turn(float turns, float *cosine, float *sine); /* of 2π · turns, turns in [0, 1) */

#endif
