/* What all requests need of the cells: their lines, which addresses there are, and what was written. */
#include "chip.h"

#pragma GCC optimize("Os") /* small before fast */

#define SLICE_US 2000u /* and one call of the macro more */

static uint64_t slice_begun_us;

void slice_begin(void) { slice_begun_us = board_us(); }

bool slice_over(void) { return board_us() - slice_begun_us >= SLICE_US; }

const uint16_t chip_word_lines[CHIP_LOGICAL_ROWS] = CHIP_WORD_LINES;
const uint16_t chip_bit_lines[CHIP_BIT_LINES_USED] = CHIP_BIT_LINES;

struct chip_written chip_written;

void chip_wrote(uint32_t cells_first_pulsed, uint32_t pulses) {
    chip_written.programmed += cells_first_pulsed;
    chip_written.pulses += pulses;
    memset(chip_written.held, 0, sizeof chip_written.held);
}

enum work check_block(struct job *job) {
    const struct wire_cells *c = &job->request->cells;
    if (c->macro >= CHIP_MACROS) return refuse(job, ERROR_OUT_OF_RANGE, "no such macro", c->macro, CHIP_MACROS - 1);
    if (c->row0 + (uint32_t)c->rows > CHIP_ROWS) {
        return refuse(job, ERROR_OUT_OF_RANGE, "word lines beyond the macro", c->row0 + (uint32_t)c->rows, CHIP_ROWS);
    }
    if (c->column0 + (uint32_t)c->columns > CHIP_COLUMNS) {
        const uint32_t end = c->column0 + (uint32_t)c->columns;
        return refuse(job, ERROR_OUT_OF_RANGE, "bit lines beyond the macro", end, CHIP_COLUMNS);
    }
    return WORK_DONE;
}

enum work check_tile(struct job *job, const struct wire_tile *tile) {
    if (tile->macro >= CHIP_MACROS) return refuse(job, ERROR_OUT_OF_RANGE, "no such macro", tile->macro, CHIP_MACROS - 1);
    const uint32_t row_end = tile->row0 + (uint32_t)tile->rows, output_end = tile->output0 + (uint32_t)tile->outputs;
    if (!tile->rows || row_end > CHIP_LOGICAL_ROWS || tile->rows > CHIP_ROWS_PER_READ) {
        return refuse(job, ERROR_OUT_OF_RANGE, "rows beyond the macro", row_end, CHIP_LOGICAL_ROWS);
    }
    if (!tile->outputs || output_end > CHIP_OUTPUTS) {
        return refuse(job, ERROR_OUT_OF_RANGE, "outputs beyond the macro", output_end, CHIP_OUTPUTS);
    }
    return WORK_DONE;
}
