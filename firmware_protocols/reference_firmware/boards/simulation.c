/* The board of the link simulation (tests/line_simulation): a library in its process. Clock, line, power and macros are
 * the simulation's; the answers follow from the requests. It sees the state of the server, as no other board does. */
#include <setjmp.h>

#include "../core/server.c"
#include "../core/replies.c"
#include "../nonvolatile/memory.h"

#define READ_NS 2000000u    /* of one READ_CELLS */
#define PULSE_NS 100000u    /* of one PULSE */
#define PROGRESS_STEPS 4u   /* slices of a tile between two signs of progress */

/* What the simulation does for the firmware. */
struct simulation {
    uint32_t (*begin)(uint64_t sample);                                     /* a request on cells begins; 0: the macro fails */
    void (*work)(uint64_t nanoseconds);                                     /* the macros were at work so long */
    uint32_t (*write)(uint64_t sample, int32_t macro);                      /* cells change (-1: by a pulse); 0: the power fails */
    void (*finished)(uint64_t sample);                                      /* a write is done */
    void (*outputs)(uint32_t on);
    uint32_t (*lasting)(uint32_t size);                                     /* bytes of the next `size` that power lasts for */
    uint64_t (*chip_time_ns)(void);
};

/* State of the server, as the simulation looks at it after each call. */
struct looked_at {
    uint64_t heard_us, deadline_us;
    uint32_t boot_id, nonce, frames_received, kept_count, open_count;
    uint16_t session, kept[CACHED_REPLIES], open[JOBS_WAITING + 1];
    uint8_t up, has_host, idle, busy;
};

static struct simulation sim;
static uint8_t kept[MEMORY_BYTES + 1], key[KEY_BYTES], description[512];
static uint32_t description_size;
static uint64_t clock_us, epoch;
static bool has_key;
static jmp_buf power_lost;

uint64_t board_us(void) { return clock_us; }

const uint8_t *memory_at(uint32_t at) { return kept + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) {
    const uint32_t lasting = sim.lasting(size);
    memcpy(kept + at, data, lasting);
    if (lasting < size) longjmp(power_lost, 1);
}

const uint8_t *board_key(void) { return has_key ? key : NULL; }

uint64_t board_epoch(void) { return epoch; }

/* --- requests ----------------------------------------------------------------------------------------- */

static void put_counts(struct job *job, uint32_t unit_ns) {
    const struct wire_cells *c = &job->request->cells;
    const struct wire_readings fixed = {unit_ns, c->rows, c->columns};
    wire_put_readings(reply_room(job->reply, WIRE_READINGS_SIZE), &fixed);
}

static enum work trip(struct job *job) { return refuse(job, ERROR_FAULT, "the macro tripped", 0, 0); }

static enum work program(struct job *job) {
    const struct request *r = job->request;
    const uint32_t cells = (uint32_t)r->cells.rows * r->cells.columns;
    if (!job->step && !sim.begin(r->program.sample)) return trip(job);
    if (job->step < r->program.max_pulses) {
        job->step++;
        sim.work((uint64_t)r->program.verify_reads * 1000000u);
        if (!sim.write(r->program.sample, r->cells.macro)) longjmp(power_lost, 1);
        job->progress = (struct wire_progress){job->step, r->program.max_pulses, 0};
        job->tell_progress = job->step % PROGRESS_STEPS == 0;
        return WORK_MORE;
    }
    const uint32_t asked = (uint32_t)(r->program.sample % 50u);
    const uint32_t pulses = asked < r->program.max_pulses ? asked : r->program.max_pulses;
    reply_begin(job->reply, OP_TILE_PROGRAMMED, r->id, 0);
    put_counts(job, r->program.unit_ns);
    for (uint32_t i = 0; i < cells; i++) put_u16(reply_room(job->reply, 2), (uint16_t)ints_get(&r->values, i));
    uint8_t *at = reply_ints(job->reply, cells, 4);
    for (uint32_t i = 0; i < cells; i++) put_u32(at + 4 * i, pulses);
    reply_pack_ints(job->reply, cells, 4);
    uint8_t *bits = reply_room(job->reply, (cells + 7) / 8);
    memset(bits, 0, (cells + 7) / 8);
    for (uint32_t i = 0; i < cells; i++) {
        if (ints_get(&r->values, i) > 0) bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
    }
    sim.finished(r->program.sample);
    return WORK_DONE;
}

static enum work pulse(struct job *job) {
    const struct request *r = job->request;
    if (!sim.begin(r->pulse.sample)) return trip(job);
    sim.work(PULSE_NS);
    if (!sim.write(r->pulse.sample, -1)) longjmp(power_lost, 1);
    sim.finished(r->pulse.sample);
    reply_begin(job->reply, OP_DONE, r->id, 0);
    return WORK_DONE;
}

static enum work read_cells(struct job *job) {
    const struct request *r = job->request;
    const uint32_t cells = (uint32_t)r->cells.rows * r->cells.columns;
    if (!sim.begin(r->read.sample)) return trip(job);
    sim.work(READ_NS);
    reply_begin(job->reply, OP_CELL_READINGS, r->id, 0);
    put_counts(job, r->read.unit_ns);
    for (uint32_t i = 0; i < cells; i++) put_u16(reply_room(job->reply, 2), (uint16_t)((7u * i + r->read.sample) % 60000u));
    return WORK_DONE;
}

static enum work product(struct job *job) {
    const struct request *r = job->request;
    const struct wire_mvm_result fixed = {r->compute.returns, 2, 0, r->values.count};
    if (!sim.begin(r->compute.sample)) return trip(job);
    sim.work(1000u * (uint64_t)r->values.count);
    reply_begin(job->reply, OP_MVM_RESULT, r->id, 0);
    wire_put_mvm_result(reply_room(job->reply, WIRE_MVM_RESULT_SIZE), &fixed);
    put_u32(reply_room(job->reply, 4), r->mvm.vectors);
    put_u32(reply_room(job->reply, 4), r->mvm.rows);
    uint8_t *at = reply_ints(job->reply, r->values.count, 4);
    for (uint32_t i = 0; i < r->values.count; i++) {
        put_i32(at + 4 * i, (int32_t)(3 * ints_get(&r->values, i) + (int64_t)r->compute.sample));
    }
    reply_pack_ints(job->reply, r->values.count, 4);
    return WORK_DONE;
}

static enum work handle(struct job *job) {
    const struct wire_status status = {25.0, server.outputs_on, 0, 0};
    if (drives(job->request->op)) sim.outputs(1);
    switch (job->request->op) {
    case OP_DESCRIBE:
        reply_begin(job->reply, OP_DESCRIPTION, job->request->id, 0);
        memcpy(reply_room(job->reply, description_size), description, description_size);
        return WORK_DONE;
    case OP_STATUS:
        reply_begin(job->reply, OP_STATUS_REPLY, job->request->id, 0);
        wire_put_status(reply_room(job->reply, WIRE_STATUS_SIZE), &status);
        return WORK_DONE;
    case OP_PROGRAM_TILE: return program(job);
    case OP_PULSE: return pulse(job);
    case OP_READ_CELLS: return read_cells(job);
    case OP_MVM: return product(job);
    default: return refuse(job, ERROR_UNSUPPORTED, "not simulated", job->request->op, 0);
    }
}

static uint64_t time_ns(void) { return sim.chip_time_ns(); }

static void off(void) { sim.outputs(0); }

static const struct chip_handlers HANDLERS = {CAN_PROGRAM_TILE | CAN_PULSE | CAN_SUMS | CAN_RESET, time_ns, handle, off, off};

/* --- for the simulation ----------------------------------------------------------------------------------- */

/* A new board, its memory erased; `of` 32 bytes of key, or NULL. */
void simulation_begin(const struct simulation *with, const uint8_t *of, const uint8_t *said, uint32_t size) {
    sim = *with;
    memset(kept, 0, sizeof kept);
    has_key = of != NULL;
    if (of) memcpy(key, of, KEY_BYTES);
    memcpy(description, said, size);
    description_size = size;
}

/* Each of these gives false where the power failed on the way. */
bool simulation_start(uint32_t boot_id, uint64_t now_us) {
    clock_us = now_us;
    epoch = boot_id;
    if (setjmp(power_lost)) return false;
    server_start(&HANDLERS, boot_id, 1);
    return true;
}

bool simulation_receive(const uint8_t *data, uint32_t size, uint64_t now_us) {
    clock_us = now_us;
    if (setjmp(power_lost)) return false;
    server_receive(data, size, now_us);
    return true;
}

/* One frame, or a slice of work. */
bool simulation_transmit(uint64_t now_us, uint8_t *out, uint32_t *size) {
    clock_us = now_us;
    *size = 0;
    if (setjmp(power_lost)) return false;
    *size = server_transmit(now_us, out);
    return true;
}

void simulation_look(struct looked_at *to, uint64_t now_us) {
    memset(to, 0, sizeof *to);
    to->heard_us = server.link.heard_us;
    to->deadline_us = server_deadline(now_us);
    to->boot_id = server.boot_id;
    to->nonce = server.host;
    to->frames_received = server.link.counters.frames_received;
    to->session = server.link.session;
    to->up = server.link.up;
    to->has_host = server.has_host;
    to->idle = send_idle(&server.link.send);
    to->busy = server_busy();
    for (uint32_t i = 0; i < CACHED_REPLIES; i++) {
        if (replies.kept[i].size) to->kept[to->kept_count++] = replies.kept[i].id;
    }
    if (server.running) to->open[to->open_count++] = server.request.id;
    for (uint32_t i = 0; i < server.count; i++) to->open[to->open_count++] = server.waiting[i].id;
}

const uint8_t *simulation_memory(void) { return kept; }
