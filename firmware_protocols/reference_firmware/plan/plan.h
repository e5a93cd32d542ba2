/* Plans: a whole network that the chip runs by itself (docs/file-formats.md, Plans). Words are kept as they came; values lie
 * in one arena, whose places the host has chosen and which are checked before the first image. */
#ifndef PLAN_H
#define PLAN_H

#include "../core/chip.h"
#include "../core/digital.h"

enum kind {
    KIND_LAYERS = 1, KIND_RESCALE, KIND_ADD, KIND_CONCAT, KIND_MAX_POOL, KIND_AVERAGE_POOL, KIND_RESHAPE, KIND_PAD, KIND_SLICE,
    KIND_TABLE, KIND_AFFINE, KIND_PRODUCT, KIND_MATMUL, KIND_SUM, KIND_EXTREME, KIND_PERMUTE, KIND_TAKE, KIND_RESAMPLE, KIND_NORM,
    KIND_SOFTMAX
};

enum { AXES_MAX = 6, PART_WORDS = 5, TURN_SHIFT = 28, PIXEL_VALUES = 256, PLAN_HEAD = 7, INPUTS_MAX = 64 };

/* Words that are still to be read; `broken` once there were too few. */
struct words {
    const int32_t *at;
    uint32_t left;
    bool broken;
};

struct array {
    const int32_t *data;
    uint32_t count;
};

/* Numbers with axes, those of length 1 repeated; rank 0: none. */
struct tensor {
    uint32_t rank, size, lengths[AXES_MAX];
    const int32_t *data;
};

struct rule {
    struct array multiplier, shift;
    int32_t low, high;
};

/* Codes in the arena. */
struct value {
    uint32_t place, item, rank, size, lengths[AXES_MAX];
};

/* A step as its words say; which fields hold something depends on its kind. */
struct step {
    uint32_t kind, output, inputs;
    uint32_t input[INPUTS_MAX];
    struct words arguments; /* from the first on; rules of a concatenation are read from here */
    int32_t numbers[5];     /* single words, in order */
    struct array lists[4];  /* counted words, in order */
    struct tensor tensors[3];
    struct rule rules[3];
};

int32_t words_take(struct words *words);
struct array words_list(struct words *words);
struct rule words_rule(struct words *words);

/* Reads the next step, with all its arguments; the words are broken if it is none. */
void step_read(struct words *words, struct step *to);

#if PLAN_WORDS
/* The plan that was given, or the part of it that has come. */
extern struct plan {
    int32_t words[PLAN_WORDS];
    uint32_t have; /* words that have come */
    bool ready;
    uint32_t value_at[PLAN_VALUES]; /* first word of each value */
    uint32_t values, steps, first_step;
    uint32_t width; /* codes of the answer */
} plan;
#endif

/* Reads the next value; the words are broken if it is none, or leaves the arena. */
struct value value_read(struct words *words);

/* The value of a number below the plan's count. */
struct value plan_value(uint32_t number);

/* Whether a step fits the values around it. */
bool step_fits(const struct step *step);

int32_t code_get(const struct value *value, uint32_t index);
void code_put(const struct value *value, uint32_t index, int32_t code);
const uint8_t *codes_at(const struct value *value);

/* Bytes beside the image's codes, free until the first step of an image; PLAN_MEMORY must leave room for so many. */
uint8_t *plan_spare(uint32_t bytes);

/* A digital step, then its units from 0 on: an element of the output, or a whole group of a norm or softmax. True after the last. */
void instruction_begin(const struct step *step);
bool instruction_run(uint32_t unit);

#if PLAN_WORDS
void plan_forget(void);
#else
static inline void plan_forget(void) {}
#endif
enum work plan_load(struct job *job); /* LOAD_PLAN */
enum work plan_run(struct job *job);  /* RUN_PLAN: one slice */

#endif
