/* The macros of one chip, as the firmware drives them: the one file to implement for a board's own pins.
 * The die model in die/ implements it too, but for the clock. A call may take up to 0.1 s. `sample` and `turn` number a noisy observation for the die
 * model, so that a request repeated gives the same bits; a real board ignores them. */
#ifndef MACRO_H
#define MACRO_H

#include "bytes.h"
#include "chip_config.h" /* generated from the chip file: sizes, lines, converter ranges, timing, limits */

#if CHIP_PAIR_DIGITAL
#define CHIP_CONVERSIONS(outputs) (2u * (outputs))
#else
#define CHIP_CONVERSIONS(outputs) (1u * (outputs))
#endif

/* One physical cell. */
struct cell {
    uint16_t macro, word_line, bit_line;
};

/* One read of a tile: the rows that are driven, the outputs that are converted. */
struct array_read {
    uint16_t macro, row0, output0, outputs;
    const uint8_t *on; /* logical rows driven at v_read, counted from row0, ascending; a macro has at most 256 */
    uint32_t on_count;
    uint8_t range_code;
    uint64_t sample;
    uint32_t position, plane;
};

void macro_start(void);
void macro_outputs(bool on); /* off: every voltage off the array, at once */

/* One pulse of `millivolts` for `width_ns`; `polarity` POLARITY_SET raises the conductance. */
void macro_pulse(const struct cell *cell, uint8_t polarity, uint32_t millivolts, uint32_t width_ns, uint64_t sample,
                 uint32_t turn);

/* Conductance of one read in µS, the `read`-th of those whose mean was asked for; `verify`: within a write. */
float macro_read_us(const struct cell *cell, uint32_t read, bool verify, uint64_t sample, uint32_t turn);

/* Converts one read; CHIP_CONVERSIONS(outputs) codes. Pairs subtracted after conversion: all plus, then all minus halves. */
void macro_convert(const struct array_read *read, int16_t *codes);

float macro_temperature_c(void); /* NaN: unknown */

uint64_t board_us(void); /* the board's clock: microseconds that never run backwards */

/* Chip time. A real board counts it; the die model's moves by operations and waits only. */
uint64_t macro_time_ns(void);
void macro_spend_ns(uint64_t duration_ns); /* an operation took this long */
bool macro_wait_ns(uint64_t duration_ns);  /* true once it has passed; until then it is called again and again */
void macro_settle(void);                   /* a write or a wait has ended: cells age to this moment */

#endif
