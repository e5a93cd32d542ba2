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
