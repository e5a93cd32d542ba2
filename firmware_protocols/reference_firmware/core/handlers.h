/* What stands behind the chip role: a board's own code, or core/chip.c over the macro layer (core/macro.h). */
#ifndef HANDLERS_H
#define HANDLERS_H

#include "messages.h"

enum work {
    WORK_DONE,    /* the reply is written */
    WORK_MORE,    /* call again: the link answers meanwhile, so that no slice should last above 0.1 s */
    WORK_REFUSED, /* `refusal` says why; no reply is written */
};

struct refusal {
    uint16_t code; /* ERROR_… */
    const char *text;
    int64_t value, limit; /* the number asked for and the number allowed, 0 where none apply */
};

/* One request under way. `step` and `progress` are zero at the first call, and the handler's from then on. */
struct job {
    const struct request *request;
    struct reply *reply; /* the server fills the chip time of its head when the job is done */
    struct refusal refusal;
    struct wire_progress progress;
    bool tell_progress; /* set to send `progress` to the host; a `total` is sent each second without */
    uint32_t step;
};

struct chip_handlers {
    uint32_t capabilities;          /* CAN_… */
    uint64_t (*chip_time_ns)(void); /* since start; every reply carries it */
    enum work (*work)(struct job *job); /* one slice of any request except OUTPUTS_OFF and RESET */
    void (*outputs_off)(void);      /* take every voltage off the array; called after faults too */
    void (*reset)(void);            /* as after power-on */
};

static inline enum work refuse(struct job *job, uint16_t code, const char *text, int64_t value, int64_t limit) {
    job->refusal = (struct refusal){code, text, value, limit};
    return WORK_REFUSED;
}

#endif
