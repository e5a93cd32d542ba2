#include "die_macro.h"

#include "core/chip.h"
#include "die/die.h"

#define APPLY(name, value) die_set(name, value);

static uint8_t written[MAX_MESSAGE], readings[4 * MAX_MESSAGE];

void die_convert(const struct array_read *read, int16_t *codes);
void die_spend_ns(uint64_t duration_ns);
void die_outputs(bool on);

bool die_macro(const struct array_read *read, int16_t *codes) {
    if (read) die_convert(read, codes);
    else die_outputs(false);
    return true;
}

static bool write_cells(uint32_t size, uint64_t time_ns) {
    static struct request request;
    struct reply reply = {readings, sizeof readings, 0};
    struct job job = {.request = &request, .reply = &reply};
    if (request_read(written, size, &request) != READ_WELL) return false;
    die_spend_ns(time_ns - macro_time_ns());
    if (request.op == OP_WAIT) {
        macro_wait_ns(request.wait.duration_ns);
        macro_settle();
        return true;
    }
    enum work work = WORK_MORE;
    while (work == WORK_MORE) {
        slice_begin();
        work = request.op == OP_PULSE ? chip_pulse(&job) : chip_program(&job);
    }
    return work == WORK_DONE && reply.size <= reply.room;
}

/* Each write of a run: chip time before it, size, and the message. */
bool die_begin(FILE *writes) {
    uint8_t head[12];
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    macro_start();
    while (fread(head, sizeof head, 1, writes)) {
        const uint32_t size = get_u32(head + 8);
        if (size > sizeof written || !fread(written, size, 1, writes) || !write_cells(size, get_u64(head))) return false;
    }
    return true;
}
