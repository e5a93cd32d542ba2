/* Real functions without a C library: single precision, the same bits on every IEEE machine. */
#ifndef REAL_H
#define REAL_H

#include "../core/bytes.h"

#define REAL_LN2 0.69314718f

static inline float real_sqrt(float x) { return __builtin_sqrtf(x); }

float real_log(float x);  /* x > 0; relative error below 2e-6 */
float real_exp(float x);  /* 0 below −87, the largest at 88 */
float real_sinh(float x);
void real_turn(float turns, float *cosine, float *sine); /* of 2π · turns, turns in [0, 1) */

#endif
