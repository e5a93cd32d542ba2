#include "../plan/plan.h"

#pragma GCC optimize("Os") /* small before fast */

static const uint8_t SPEC_DIGEST[DIGEST_BYTES] = CHIP_SPEC_DIGEST;

static struct {
    const struct chip_identity *identity;
    bool outputs_on;
} chip;

/* --- short requests -------------------------------------------------------------------------------- */

static enum work describe(struct job *job) {
    const struct wire_description fixed = {CHIP_MACROS, CHIP_ROWS, CHIP_COLUMNS};
    reply_begin(job->reply, OP_DESCRIPTION, job->request->id, 0);
    uint8_t *at = reply_room(job->reply, WIRE_DESCRIPTION_SIZE + 2 * DIGEST_BYTES);
    if (at) {
        wire_put_description(at, &fixed);
        memcpy(at + WIRE_DESCRIPTION_SIZE, SPEC_DIGEST, DIGEST_BYTES);
        memcpy(at + WIRE_DESCRIPTION_SIZE + DIGEST_BYTES, chip_written.held, DIGEST_BYTES);
    }
    reply_text(job->reply, CHIP_NAME);
    reply_text(job->reply, CHIP_REVISION);
    reply_text(job->reply, chip.identity->serial);
    reply_text(job->reply, chip.identity->firmware);
    reply_text(job->reply, chip.identity->kind);
    return WORK_DONE;
}

static enum work status(struct job *job) {
    const struct wire_status fixed = {f64_of_float(macro_temperature_c()), chip.outputs_on, chip_written.programmed, chip_written.pulses};
    reply_begin(job->reply, OP_STATUS_REPLY, job->request->id, 0);
    uint8_t *at = reply_room(job->reply, WIRE_STATUS_SIZE);
    if (at) wire_put_status(at, &fixed);
    return WORK_DONE;
}

static enum work done(struct job *job) {
    reply_begin(job->reply, OP_DONE, job->request->id, 0);
    return WORK_DONE;
}

static enum work hold_program(struct job *job) {
    memcpy(chip_written.held, job->request->digest, DIGEST_BYTES);
    return done(job);
}

static enum work wait(struct job *job) {
    if (!macro_wait_ns(job->request->wait.duration_ns)) return WORK_MORE;
    macro_settle();
    return done(job);
}

static void switch_on(void) {
    if (chip.outputs_on) return;
    macro_outputs(true);
    chip.outputs_on = true;
}

static enum work slice(struct job *job) {
    slice_begin();
    switch (job->request->op) {
    case OP_DESCRIBE: return describe(job);
    case OP_STATUS: return status(job);
    case OP_WAIT: return wait(job);
    case OP_HOLD_PROGRAM: return hold_program(job);
    case OP_LOAD_LAYER: return chip_load_layer(job) == WORK_DONE ? done(job) : WORK_REFUSED;
#if PLAN_WORDS
    case OP_LOAD_PLAN: return plan_load(job) == WORK_DONE ? done(job) : WORK_REFUSED;
#endif
    default: switch_on();
    }
    switch (job->request->op) {
    case OP_PROGRAM_TILE: return chip_program(job);
    case OP_PULSE: return chip_pulse(job);
    case OP_READ_CELLS: return chip_read_cells(job);
    case OP_MVM:
    case OP_SWEEP: return chip_compute(job);
#if PLAN_WORDS
    case OP_RUN_PLAN: return plan_run(job);
#endif
    default: return refuse(job, ERROR_UNSUPPORTED, "no handler for this operation", job->request->op, 0);
    }
}

static void outputs_off(void) {
    macro_outputs(false);
    chip.outputs_on = false;
}

/* Loaded layers and plan are gone. Cells keep what was written, and its digest. */
static void reset(void) {
    outputs_off();
    layers_forget();
    plan_forget();
}

static const struct chip_handlers HANDLERS = {
    .capabilities = CAN_PROGRAM_TILE | CAN_PULSE | CAN_SWEEP | CAN_RAW | CAN_SUMS | CAN_LAYER | CAN_REPEATED_READS | CAN_WAIT |
                    CAN_TEMPERATURE | CAN_HELD_PROGRAM | CAN_RESET | (PLAN_WORDS ? CAN_PLAN : 0),
    .chip_time_ns = macro_time_ns,
    .work = slice,
    .outputs_off = outputs_off,
    .reset = reset,
};

const struct chip_handlers *chip_start(const struct chip_identity *identity) {
    memset(&chip, 0, sizeof chip);
    memset(&chip_written, 0, sizeof chip_written);
    chip.identity = identity;
    macro_start();
    layers_forget();
    plan_forget();
    return &HANDLERS;
}
