/* Writing and reading cells: write-verify, single pulses, cell reads. */
#include "chip.h"

#pragma GCC optimize("Os") /* small before fast */

#define CELLS_A_PROGRESS 1024u
#define COUNT_MAX 0xFFFEu /* the one above leaves a cell alone */

static uint8_t pulsed[(CHIP_MACROS * CHIP_ROWS * CHIP_COLUMNS + 7u) / 8u]; /* cells that took a pulse since start */
static uint8_t reached[(CHIP_ROWS * CHIP_COLUMNS + 7u) / 8u];             /* of the write under way */

/* Pulses that each macro took. A restart leaves the count; where RAM loses it with the power, a board keeps it in flash. */
static uint32_t worn[CHIP_MACROS] NOT_CLEARED;

static struct cell cell_of(const struct wire_cells *block, uint32_t index) {
    return (struct cell){
        block->macro,
        (uint16_t)(block->row0 + index / block->columns),
        (uint16_t)(block->column0 + index % block->columns),
    };
}

static uint32_t note_pulse(const struct cell *cell) {
    const uint32_t number = ((uint32_t)cell->macro * CHIP_ROWS + cell->word_line) * CHIP_COLUMNS + cell->bit_line;
    const uint8_t bit = (uint8_t)(1u << number % 8);
    const uint32_t first = !(pulsed[number / 8] & bit);
    pulsed[number / 8] |= bit;
    worn[cell->macro]++;
    return first;
}

static uint16_t to_counts(float value_us, uint32_t unit_ns) {
    const float counts = value_us * (1e3f / (float)unit_ns) + 0.5f;
    return counts < 0.0f ? 0 : counts > (float)COUNT_MAX ? (uint16_t)COUNT_MAX : (uint16_t)counts;
}

/* --- write-verify ---------------------------------------------------------------------------------- */

/* As many pulses more stay within what the macro's cells bear in their life, on average. */
static enum work check_wear(struct job *job, uint32_t pulses) {
    const uint32_t taken = worn[job->request->cells.macro];
    if (taken > CHIP_LIMIT_WEAR || pulses > CHIP_LIMIT_WEAR - taken) {
        return refuse(job, ERROR_LIMIT, "pulses of a macro in its life", taken + pulses, CHIP_LIMIT_WEAR);
    }
    return WORK_DONE;
}

static enum work check_limits(struct job *job) {
    const struct wire_program *p = &job->request->program;
    const uint32_t set = p->set_start_mv > p->set_stop_mv ? p->set_start_mv : p->set_stop_mv;
    const uint32_t reset = p->reset_start_mv > p->reset_stop_mv ? p->reset_start_mv : p->reset_stop_mv;
    if (!p->unit_ns) return refuse(job, ERROR_OUT_OF_RANGE, "the unit must be at least 1", 0, 1);
    if (!p->verify_reads) return refuse(job, ERROR_OUT_OF_RANGE, "verify reads must be at least 1", 0, 1);
    if (set > CHIP_LIMIT_SET_MV) return refuse(job, ERROR_LIMIT, "SET voltage in mV", set, CHIP_LIMIT_SET_MV);
    if (reset > CHIP_LIMIT_RESET_MV) return refuse(job, ERROR_LIMIT, "RESET voltage in mV", reset, CHIP_LIMIT_RESET_MV);
    if (p->pulse_width_ns > CHIP_LIMIT_WIDTH_NS) {
        return refuse(job, ERROR_LIMIT, "pulse width in ns", p->pulse_width_ns, CHIP_LIMIT_WIDTH_NS);
    }
    if (p->max_pulses > CHIP_LIMIT_PULSES) {
        return refuse(job, ERROR_LIMIT, "pulses per cell", p->max_pulses, CHIP_LIMIT_PULSES);
    }
    return WORK_DONE;
}

/* The cell that is being written: read, stop inside the window, else one pulse towards it; a change of direction starts
 * the ramp anew. */
static struct {
    float total_us, reading_us; /* of the reads of this verify, and the mean of the last whole one */
    uint32_t reads, pulses, ramp;
    bool up, inside;
} at;

/* One call of the macro; true when the cell is done. */
static bool write_step(const struct cell *cell, float target_us, const struct wire_program *p) {
    const float window_us = (float)p->tolerance * (float)p->unit_ns * 1e-3f;
    if (at.reads < p->verify_reads) {
        at.total_us += macro_read_us(cell, at.reads++, true, p->sample, at.pulses);
        macro_spend_ns(CHIP_VERIFY_NS);
        if (at.reads < p->verify_reads) return false;
        at.reading_us = at.total_us / (float)at.reads;
        const float off_us = at.reading_us - target_us;
        at.inside = off_us <= window_us && -off_us <= window_us;
        return at.inside || at.pulses == p->max_pulses;
    }
    const bool higher = at.reading_us < target_us;
    at.ramp = at.pulses && higher == at.up ? at.ramp + 1 : 0;
    at.up = higher;
    const uint32_t start = higher ? p->set_start_mv : p->reset_start_mv, step = higher ? p->set_step_mv : p->reset_step_mv;
    const uint32_t stop = higher ? p->set_stop_mv : p->reset_stop_mv, ramped = start + step * at.ramp;
    macro_pulse(cell, higher ? POLARITY_SET : POLARITY_RESET, ramped < stop ? ramped : stop, p->pulse_width_ns, p->sample,
                at.pulses);
    macro_spend_ns(CHIP_PULSE_NS);
    chip_wrote(note_pulse(cell), 1);
    at.pulses++;
    at.reads = 0;
    at.total_us = 0.0f;
    return false;
}

enum work chip_program(struct job *job) {
    const struct request *r = job->request;
    const uint32_t cells = (uint32_t)r->cells.rows * r->cells.columns;
    const uint32_t head = WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_READINGS_SIZE;
    if (!job->progress.total) {
        if (check_block(job) != WORK_DONE || check_limits(job) != WORK_DONE) return WORK_REFUSED;
        if (check_wear(job, cells * r->program.max_pulses) != WORK_DONE) return WORK_REFUSED;
        const struct wire_readings fixed = {r->program.unit_ns, r->cells.rows, r->cells.columns};
        reply_begin(job->reply, OP_TILE_PROGRAMMED, r->id, 0);
        uint8_t *room = reply_room(job->reply, WIRE_READINGS_SIZE + 2 * cells);
        if (!room || !reply_ints(job->reply, cells, 4)) return WORK_DONE; /* too long for a reply: the server refuses */
        wire_put_readings(room, &fixed);
        memset(reached, 0, sizeof reached);
        memset(&at, 0, sizeof at);
        job->progress.total = cells;
        chip_wrote(0, 0);
    }
    uint8_t *readings = job->reply->data + head, *pulses = readings + 2 * cells + 1;
    do {
        const uint32_t i = job->progress.done, target = (uint32_t)ints_get(&r->values, i);
        const struct cell cell = cell_of(&r->cells, i);
        const bool alone = target == LEAVE_ALONE;
        if (!alone && !write_step(&cell, (float)target * (float)r->program.unit_ns * 1e-3f, &r->program)) continue;
        if (!alone && !at.inside) job->progress.failed++;
        put_u16(readings + 2 * i, to_counts(at.reading_us, r->program.unit_ns));
        put_u32(pulses + 4 * i, at.pulses);
        if (at.inside) reached[i / 8] |= (uint8_t)(1u << i % 8);
        memset(&at, 0, sizeof at);
        job->progress.done++;
        if (job->progress.done % CELLS_A_PROGRESS == 0) job->tell_progress = true;
    } while (job->progress.done < cells && !slice_over());
    if (job->progress.done < cells) return WORK_MORE;
    macro_settle();
    reply_pack_ints(job->reply, cells, 4);
    uint8_t *bits = reply_room(job->reply, (cells + 7) / 8);
    if (bits) memcpy(bits, reached, (cells + 7) / 8);
    return WORK_DONE;
}

/* --- pulses and reads -------------------------------------------------------------------------------- */

static enum work check_pulse(struct job *job, uint32_t cells) {
    const struct request *r = job->request;
    const bool up = r->pulse.polarity == POLARITY_SET;
    const uint32_t limit = up ? CHIP_LIMIT_SET_MV : CHIP_LIMIT_RESET_MV;
    if (check_block(job) != WORK_DONE || check_wear(job, cells) != WORK_DONE) return WORK_REFUSED;
    if (!r->pulse.width_ns) return refuse(job, ERROR_OUT_OF_RANGE, "the pulse width must be at least 1 ns", 0, 1);
    if (r->pulse.width_ns > CHIP_LIMIT_WIDTH_NS) {
        return refuse(job, ERROR_LIMIT, "pulse width in ns", r->pulse.width_ns, CHIP_LIMIT_WIDTH_NS);
    }
    for (uint32_t i = 0; i < cells; i++) { /* all of them before the first pulse */
        const uint32_t millivolts = (uint32_t)ints_get(&r->values, i);
        if (millivolts > limit) {
            return refuse(job, ERROR_LIMIT, up ? "SET voltage in mV" : "RESET voltage in mV", millivolts, limit);
        }
    }
    return WORK_DONE;
}

enum work chip_pulse(struct job *job) {
    const struct request *r = job->request;
    const uint32_t cells = (uint32_t)r->cells.rows * r->cells.columns;
    if (!job->progress.total) {
        if (check_pulse(job, cells) != WORK_DONE) return WORK_REFUSED;
        job->progress.total = cells;
        chip_wrote(0, 0);
    }
    do {
        const uint32_t i = job->progress.done++, millivolts = (uint32_t)ints_get(&r->values, i);
        if (!millivolts) continue;
        const struct cell cell = cell_of(&r->cells, i);
        macro_spend_ns(CHIP_PULSE_NS);
        macro_pulse(&cell, r->pulse.polarity, millivolts, r->pulse.width_ns, r->pulse.sample, 0);
        chip_wrote(note_pulse(&cell), 1);
    } while (job->progress.done < cells && !slice_over());
    if (job->progress.done < cells) return WORK_MORE;
    macro_settle();
    reply_begin(job->reply, OP_DONE, r->id, 0);
    return WORK_DONE;
}

enum work chip_read_cells(struct job *job) {
    const struct request *r = job->request;
    const uint32_t cells = (uint32_t)r->cells.rows * r->cells.columns;
    if (!job->progress.total) {
        if (check_block(job) != WORK_DONE) return WORK_REFUSED;
        if (!r->read.reads) return refuse(job, ERROR_OUT_OF_RANGE, "reads must be at least 1", 0, 1);
        if (!r->read.unit_ns) return refuse(job, ERROR_OUT_OF_RANGE, "the unit must be at least 1", 0, 1);
        const struct wire_readings fixed = {r->read.unit_ns, r->cells.rows, r->cells.columns};
        reply_begin(job->reply, OP_CELL_READINGS, r->id, 0);
        uint8_t *room = reply_room(job->reply, WIRE_READINGS_SIZE + 2 * cells);
        if (!room) return WORK_DONE;
        wire_put_readings(room, &fixed);
        memset(&at, 0, sizeof at);
        job->progress.total = cells;
    }
    uint8_t *readings = job->reply->data + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_READINGS_SIZE;
    do {
        const struct cell cell = cell_of(&r->cells, job->progress.done);
        at.total_us += macro_read_us(&cell, at.reads++, false, r->read.sample, 0);
        macro_spend_ns(CHIP_CELL_READ_NS);
        if (at.reads < r->read.reads) continue;
        put_u16(readings + 2 * job->progress.done++, to_counts(at.total_us / (float)at.reads, r->read.unit_ns));
        memset(&at, 0, sizeof at);
    } while (job->progress.done < cells && !slice_over());
    return job->progress.done < cells ? WORK_MORE : WORK_DONE;
}
