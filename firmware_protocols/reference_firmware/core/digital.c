#include "digital.h"

#pragma GCC optimize("Os") /* small before fast */

int64_t round_shift(int64_t value, uint32_t shift) {
    const uint64_t half = shift ? (uint64_t)1 << (shift - 1) : 0;
    const uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    const int64_t rounded = (int64_t)((size + half) >> shift);
    return value < 0 ? -rounded : rounded;
}

int64_t mean_of(int64_t total, uint32_t reads) {
    if (reads == 1) return total;
    const uint64_t size = total < 0 ? 0 - (uint64_t)total : (uint64_t)total;
    const int64_t mean = (int64_t)((2 * size + reads) / (2 * reads));
    return total < 0 ? -mean : mean;
}

int32_t saturate(int64_t value) {
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

static int32_t clamp(int64_t value, int32_t low, int32_t high) {
    return value > high ? high : value < low ? low : (int32_t)value;
}

int32_t digital_requantise(int32_t value, const struct rescale *rule) {
    return clamp(round_shift((int64_t)value * rule->multiplier, (uint32_t)rule->shift), rule->low, rule->high);
}

int32_t digital_finish(int32_t sum, int32_t bias, const struct rescale *rule) {
    return digital_requantise(saturate((int64_t)sum + bias), rule);
}

int32_t digital_add(int32_t first, int32_t second, const struct rescale terms[2], const struct rescale *rule) {
    const int64_t total = (int64_t)digital_requantise(first, &terms[0]) + digital_requantise(second, &terms[1]);
    return digital_requantise(saturate(total), rule);
}

int32_t digital_correct(int32_t sum, int64_t inputs, int32_t gain, int64_t offset, int32_t input_gain, uint32_t shift) {
    /* Unsigned, so that an absurd table wraps instead of being undefined. */
    const uint64_t total = (uint64_t)((int64_t)sum * gain) + (uint64_t)offset + (uint64_t)inputs * (uint64_t)(int64_t)input_gain;
    return saturate(round_shift((int64_t)total, shift));
}

/* --- pooling ---------------------------------------------------------------------------------- */

static uint32_t steps(const struct pool *p, uint32_t axis, uint32_t size) {
    return (size + 2 * p->padding[axis] - p->kernel[axis]) / p->stride[axis] + 1;
}

/* The code under kernel place (a, b) of window (y, x), or `outside` where the window hangs over the edge. */
static int32_t code_at(const int16_t *codes, const struct pool *p, uint32_t y, uint32_t x, uint32_t a, uint32_t b,
                       int32_t outside) {
    const uint32_t row = y * p->stride[0] + a - p->padding[0], column = x * p->stride[1] + b - p->padding[1];
    return row < p->height && column < p->width ? codes[row * p->width + column] : outside; /* below 0 wraps far above */
}

void digital_max_pool(const int16_t *codes, const struct pool *p, int16_t *out) {
    const uint32_t down = steps(p, 0, p->height), across = steps(p, 1, p->width);
    for (uint32_t y = 0; y < down; y++) {
        for (uint32_t x = 0; x < across; x++) {
            int32_t largest = INT16_MIN; /* padded places never win */
            for (uint32_t place = 0; place < p->kernel[0] * p->kernel[1]; place++) {
                const int32_t code = code_at(codes, p, y, x, place / p->kernel[1], place % p->kernel[1], INT16_MIN);
                if (code > largest) largest = code;
            }
            *out++ = (int16_t)largest;
        }
    }
}

void digital_average_pool(const int16_t *codes, const struct pool *p, const struct rescale *rule, int16_t *out) {
    const uint32_t down = steps(p, 0, p->height), across = steps(p, 1, p->width);
    for (uint32_t y = 0; y < down; y++) {
        for (uint32_t x = 0; x < across; x++) {
            int64_t total = 0; /* padded places are 0; 1 / size is in the multiplier */
            for (uint32_t place = 0; place < p->kernel[0] * p->kernel[1]; place++) {
                total += code_at(codes, p, y, x, place / p->kernel[1], place % p->kernel[1], 0);
            }
            *out++ = (int16_t)digital_requantise(saturate(total), rule);
        }
    }
}
