#include "real.h"

union bits {
    float value;
    int32_t word;
};

/* x = m 2^(e - 23) with e even: the root is that of m 2^23, bit by bit, times 2^(e/2 - 23). What is left of it says
 * whether it is rounded up; it is never half. */
float real_root(float x) {
    union bits b = {.value = x};
    int32_t exponent = (b.word >> 23) - 127;
    if (exponent < -126) return 0.0f; /* also of what is below zero */
    uint64_t m = (uint64_t)((b.word & 0x007FFFFF) | 0x00800000) << 23, root = 0;
    if (exponent & 1) m <<= 1;
    for (uint64_t bit = (uint64_t)1 << 23; bit; bit >>= 1) {
        if ((root | bit) * (root | bit) <= m) root |= bit;
    }
    if (m - root * root > root) root++;
    b.word = (exponent >> 1) * (1 << 23) + (127 << 23) + (int32_t)(root - ((uint64_t)1 << 23));
    return b.value;
}

/* ln x = e ln 2 + 2 artanh((m − 1) / (m + 1)), m in [0.707, 1.414): the odd series up to the ninth power. */
float real_log(float x) {
    union bits b = {.value = x};
    int32_t exponent = (b.word >> 23) - 127;
    b.word = (b.word & 0x007FFFFF) | 0x3F800000;
    if (b.value > 1.41421356f) {
        b.value *= 0.5f;
        exponent++;
    }
    const float t = (b.value - 1.0f) / (b.value + 1.0f), t2 = t * t;
    const float series = 1.0f + t2 * (1.0f / 3.0f + t2 * (1.0f / 5.0f + t2 * (1.0f / 7.0f + t2 * (1.0f / 9.0f))));
    return (float)exponent * REAL_LN2 + 2.0f * t * series;
}

/* e^x = 2^n e^r, |r| ≤ ln 2 / 2: the Taylor series up to the sixth power. */
float real_exp(float x) {
    if (x < -87.0f) return 0.0f;
    if (x > 88.0f) x = 88.0f;
    const float scaled = x * (1.0f / REAL_LN2);
    const int32_t n = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    const float r = x - (float)n * REAL_LN2;
    const float series = 1.0f + r * (1.0f + r * (1.0f / 2.0f + r * (1.0f / 6.0f + r * (1.0f / 24.0f + r * (1.0f / 120.0f + r * (1.0f / 720.0f))))));
    union bits power = {.word = (n + 127) << 23};
    return series * power.value;
}

float real_sinh(float x) { return 0.5f * (real_exp(x) - real_exp(-x)); }

/* Taylor series within an eighth of a turn, then the quadrant. */
void real_turn(float turns, float *cosine, float *sine) {
    const int32_t quadrant = (int32_t)(turns * 4.0f + 0.5f);
    const float r = (turns - (float)quadrant * 0.25f) * 6.2831853f, r2 = r * r;
    const float c = 1.0f - r2 * (0.5f - r2 * (1.0f / 24.0f - r2 * (1.0f / 720.0f - r2 * (1.0f / 40320.0f))));
    const float s = r * (1.0f - r2 * (1.0f / 6.0f - r2 * (1.0f / 120.0f - r2 * (1.0f / 5040.0f))));
    const bool odd = quadrant & 1;
    const float x = odd ? s : c, y = odd ? c : s;
    *cosine = (quadrant & 3) == 1 || (quadrant & 3) == 2 ? -x : x;
    *sine = (quadrant & 3) >= 2 ? -y : y;
}
