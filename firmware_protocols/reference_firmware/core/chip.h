/* The chip that the firmware is: requests become pulses and reads of the macros, and integers after them. */
#ifndef CHIP_H
#define CHIP_H

#include "handlers.h"
#include "macro.h"

/* What the board adds to the chip file. */
struct chip_identity {
    const char *serial, *firmware, *kind; /* kind: "silicon" or "emulated" */
};

const struct chip_handlers *chip_start(const struct chip_identity *identity);

/* Slices of requests, by kind: each makes one call of the macro, and further ones until `slice_over`. */
void slice_begin(void);
bool slice_over(void);
enum work chip_program(struct job *job);
enum work chip_pulse(struct job *job);
enum work chip_read_cells(struct job *job);
enum work chip_compute(struct job *job);
enum work chip_load_layer(struct job *job);

/* A block of the output map of one layer, for a step of a plan: a vector has 1 x 1. */
struct layer_part {
    uint16_t layer;
    uint8_t range_code, input_bits;
    bool input_signed;
    int32_t raised; /* added to every code, padding too */
    uint64_t sample;
    struct wire_ints codes;  /* the whole input */
    const uint32_t *lengths; /* its channels, height and width */
    const int32_t *window;   /* kernel, stride, padding, dilation, 2 each; NULL: a vector */
    const int32_t *order;    /* channel of each of the layer's, NULL: as they come */
    uint32_t top, down, left, across;
};
enum work part_begin(struct job *job, const struct layer_part *of);
bool part_step(uint8_t *out); /* one call of the macro; true when the codes of a vector stand at `out`, int32 each */
uint32_t part_outputs(void);  /* of the layer that is under way */
void part_count(uint32_t *saturated, uint32_t *conversions); /* of the part, added */

/* Loaded layers, in one arena. */
void layers_forget(void);
bool layers_find(uint16_t layer, struct request *to);

/* The cells. */
extern struct chip_written {
    uint8_t held[DIGEST_BYTES]; /* of the program that they hold, zeros: none */
    uint32_t programmed, pulses; /* cells that took a pulse since start, and pulses */
} chip_written;

void chip_wrote(uint32_t cells_first_pulsed, uint32_t pulses); /* any write forgets the held program */
enum work check_block(struct job *job);                       /* the cells of a request lie on the chip */
enum work check_tile(struct job *job, const struct wire_tile *tile);

extern const uint16_t chip_word_lines[CHIP_LOGICAL_ROWS], chip_bit_lines[CHIP_BIT_LINES_USED];

#endif
