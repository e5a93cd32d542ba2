/* The digital operations of docs/file-formats.md: integers in, integers out, halves rounded away from zero. */
#ifndef DIGITAL_H
#define DIGITAL_H

#include "bytes.h"

/* q = clamp(round(x · multiplier / 2^shift), low, high); a ReLU is low = 0. */
struct rescale {
    int32_t multiplier; /* 0 … 2^31 − 1 */
    int32_t shift;      /* 0 … 62 */
    int32_t low, high;
};

/* A pooling window over maps of `height` x `width`; (vertical, horizontal). */
struct pool {
    uint32_t height, width;
    uint32_t kernel[2], stride[2], padding[2];
};

int64_t round_shift(int64_t value, uint32_t shift); /* value / 2^shift, halves away from zero */
int64_t mean_of(int64_t total, uint32_t reads);     /* total / reads, halves away from zero */
int32_t saturate(int64_t value);                    /* to int32 */

int32_t digital_requantise(int32_t value, const struct rescale *rule);
int32_t digital_finish(int32_t sum, int32_t bias, const struct rescale *rule); /* bias, then requantised */

/* Both terms on the output scale with extra fractional bits, added saturating, then requantised. */
int32_t digital_add(int32_t first, int32_t second, const struct rescale terms[2], const struct rescale *rule);

/* level sum = round((gain · sum + offset + input_gain · inputs) / 2^shift) of one column. */
int32_t digital_correct(int32_t sum, int64_t inputs, int32_t gain, int64_t offset, int32_t input_gain, uint32_t shift);

/* One channel of codes pooled into `out`, row by row. */
void digital_max_pool(const int16_t *codes, const struct pool *pool, int16_t *out);
void digital_average_pool(const int16_t *codes, const struct pool *pool, const struct rescale *rule, int16_t *out);

#endif
