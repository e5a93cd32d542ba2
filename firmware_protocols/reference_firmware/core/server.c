#include "server.h"

#include "../nonvolatile/extras.h"
#include "../coding/packed.h"
#include "replies.h"

#pragma GCC optimize("Os") /* small before fast */

#define ARENA_BYTES (3u * MAX_MESSAGE) /* two messages' worth waits, one more arrives */
#define SMALL_MESSAGE 256u             /* longest message on other channels than bulk */
#define PROGRESS_EVERY_US 1000000u     /* of a request whose progress has a total */

struct waiting {
    uint32_t start, size;
    uint16_t id;
    uint64_t counter; /* of its seal */
};

/* A message that arrives in parts. */
struct assembly {
    uint32_t size; /* of all parts so far, kept or not */
    uint8_t small[SMALL_MESSAGE];
};

static struct {
    const struct chip_handlers *handlers;
    struct link link;
    uint8_t arena[ARENA_BYTES]; /* requests that wait, oldest first, then the bulk message that arrives */
    uint32_t arena_end;         /* of those that wait */
    struct waiting waiting[JOBS_WAITING];
    uint32_t count;
    struct assembly assembly[CHANNELS];
    uint8_t running_bytes[MAX_MESSAGE];
    struct request request;
    struct job job;
    struct reply reply;
    uint8_t progress[WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_PROGRESS_SIZE];
    uint32_t boot_id, host; /* host: nonce of the one that is served */
    uint64_t slept_ns, now_us, told_us, counter; /* told: when the last progress was */
    uint8_t reset_cause, op; /* op: as asked, also where a message of the image stands for it */
    bool running, has_host, off_due, restart_due;
    bool packs;         /* the host takes the reply to what runs packed */
    bool outputs_on;    /* a request has put voltages on the array */
    bool missed;        /* the outputs went off because the host was silent, and work has not gone on since */
    uint64_t missed_us; /* when that host was last heard */
} server;

static const struct link_owner OWNER;

static uint64_t chip_time_ns(void) { return server.handlers->chip_time_ns() + server.slept_ns; }

void server_start(const struct chip_handlers *handlers, uint32_t boot_id, uint8_t reset_cause) {
    memset(&server, 0, sizeof server);
    server.handlers = handlers;
    const uint64_t last_ns = extras_start(), now_ns = handlers->chip_time_ns();
    server.slept_ns = last_ns > now_ns ? last_ns - now_ns : 0; /* a clock that began anew goes on from the journal */
    server.boot_id = boot_id;
    server.reset_cause = reset_cause;
    replies_start();
    link_start(&server.link, &OWNER);
}

bool server_busy(void) { return server.running || server.count; }

const struct link_counters *server_counters(void) { return &server.link.counters; }

/* --- answers ------------------------------------------------------------------------------------ */

static void say(uint16_t id, struct reply *reply) {
    uint8_t *kept = replies_keep(&server.link.send, id, reply);
    if (kept) link_send(&server.link, CHANNEL_RESULTS, kept, reply->size);
}

static void say_error(uint16_t id, uint16_t code, const char *text, int64_t value, int64_t limit) {
    struct reply reply = replies_spare();
    reply_error(&reply, id, chip_time_ns(), code, text, value, limit);
    say(id, &reply);
}

static void say_done(uint16_t id) {
    struct reply reply = replies_spare();
    reply_begin(&reply, OP_DONE, id, chip_time_ns());
    say(id, &reply);
}

/* Closes the gap of so many bytes at the start of the arena: what waits behind them, and the message that arrives in parts. */
static void close_gap(uint32_t size) {
    const uint32_t arriving = server.assembly[CHANNEL_BULK].size;
    const uint32_t used = server.arena_end + (arriving < MAX_MESSAGE ? arriving : MAX_MESSAGE);
    memmove(server.arena, server.arena + size, used - size);
    server.arena_end -= size;
}

static void stop_all(const char *why) {
    if (server.running) {
        server.running = false;
        say_error(server.request.id, ERROR_STOPPED, why, 0, 0);
    }
    for (uint32_t i = 0; i < server.count; i++) say_error(server.waiting[i].id, ERROR_STOPPED, why, 0, 0);
    server.count = 0;
    close_gap(server.arena_end);
}

static void switch_off(void) {
    server.outputs_on = false;
    server.handlers->outputs_off();
}

static uint64_t off_at_us(void) { return server.outputs_on ? server.link.heard_us + DEAD_MAN_US : UINT64_MAX; }

/* The dead-man timer: no voltage stays for a host that is gone. Work waits until it is heard again. */
static void miss_host(void) {
    switch_off();
    server.missed = true;
    server.missed_us = server.link.heard_us;
}

/* --- sessions ----------------------------------------------------------------------------------- */

static void greet(const struct wire_hello *hello, struct wire_hello_reply *reply, uint64_t *time_ns) {
    if (!server.has_host || hello->nonce != server.host) {
        if (server.has_host) {
            server.running = false;
            server.count = server.arena_end = 0;
            switch_off();
        }
        replies_start();
        server.host = hello->nonce;
        server.has_host = true;
        extras_greet(server.host);
    }
    for (uint32_t channel = 0; channel < CHANNELS; channel++) server.assembly[channel].size = 0;
    server.off_due = false;
    reply->boot_id = server.boot_id;
    reply->reset_cause = server.reset_cause;
    reply->max_message = MAX_MESSAGE;
    reply->capabilities = server.handlers->capabilities | extras_capabilities() | CAN_DEAD_MAN | (PACKED_BODIES ? CAN_PACKED : 0);
    *time_ns = chip_time_ns();
}

/* Forget what waits (a host that comes back repeats it), finish what runs, outputs off. */
static void lost(void) {
    server.count = server.arena_end = 0;
    server.off_due = true;
}

void server_line_lost(void) {
    link_close(&server.link);
    lost();
}

/* What was asked since the reset ends with it. */
static void restart(void) {
    server.restart_due = false;
    server.running = false;
    server.count = server.arena_end = 0;
    switch_off();
    link_close(&server.link);
    replies_start();
    server.boot_id += RESET_STEP;
    server.reset_cause = COMMANDED_RESET;
    server.has_host = false;
}

/* --- requests ----------------------------------------------------------------------------------- */

static bool is_open(uint16_t id) {
    if (server.running && server.request.id == id) return true;
    for (uint32_t i = 0; i < server.count; i++) {
        if (server.waiting[i].id == id) return true;
    }
    return false;
}

static uint32_t missing(const struct request *request) {
    uint32_t needs = 0;
    switch (request->op) {
    case OP_PROGRAM_TILE: needs = CAN_PROGRAM_TILE; break;
    case OP_PULSE: needs = CAN_PULSE; break;
    case OP_LOAD_LAYER: needs = request->reads > 1 ? CAN_LAYER | CAN_REPEATED_READS : CAN_LAYER; break;
    case OP_LOAD_PLAN:
    case OP_RUN_PLAN: needs = CAN_PLAN | CAN_LAYER; break;
    case OP_HOLD_PROGRAM: needs = CAN_HELD_PROGRAM; break;
    case OP_WAIT: needs = CAN_WAIT; break;
    case OP_RESET: needs = CAN_RESET; break;
    case OP_SWEEP: needs = CAN_SWEEP; /* fall through */
    case OP_MVM:
        needs |= request->compute.returns == RETURNS_RAW    ? CAN_RAW
                 : request->compute.returns == RETURNS_SUMS ? CAN_SUMS
                                                            : CAN_LAYER;
        if (request->compute.reads > 1) needs |= CAN_REPEATED_READS;
        break;
    default: needs = extras_needs(request->op);
    }
    return needs & ~(server.handlers->capabilities | extras_capabilities());
}

static void overtake(const struct request *request, uint64_t counter) {
    struct job job = {.request = request};
    if (extras_take(&job, counter) != WORK_DONE) {
        say_error(request->id, job.refusal.code, job.refusal.text, job.refusal.value, job.refusal.limit);
        return;
    }
    stop_all("the outputs were switched off");
    if (request->op == OP_RESET) {
        server.outputs_on = false;
        server.handlers->reset();
        server.restart_due = true;
    } else {
        switch_off();
    }
    say_done(request->id);
}

/* Answered as it arrives, beside what runs and before what waits. */
static void status(const struct request *request) {
    struct reply reply = replies_spare();
    struct job job = {.request = request, .reply = &reply};
    if (server.handlers->work(&job) == WORK_REFUSED) {
        say_error(request->id, job.refusal.code, job.refusal.text, job.refusal.value, job.refusal.limit);
        return;
    }
    put_u64(reply.data + WIRE_MESSAGE_SIZE, chip_time_ns());
    say(request->id, &reply);
}

/* Unpacks the message at the end of the arena in its place, by way of the spare reply; its size then, 0 where it cannot be read. */
static uint32_t unpack(uint32_t size) {
    uint8_t *at = server.arena + server.arena_end, *spare = replies_spare().data;
    const uint32_t whole = packed_read(at, size, spare, MAX_MESSAGE);
    memcpy(at, spare, whole);
    return whole;
}

/* A whole message; bulk ones lie at the end of the arena and stay there when they must wait. */
static void accept(const uint8_t *data, uint32_t size, bool at_end) {
    struct request request;
    struct refusal refusal;
    uint64_t counter = 0;
    const uint32_t kept_bytes = size < MESSAGE_HEAD ? size : MESSAGE_HEAD;
    const uint16_t id = kept_bytes >= WIRE_MESSAGE_SIZE ? get_u16(data + 2) : 0;
    struct reply known = replies_find(id);
    if (known.data) {
        link_send(&server.link, CHANNEL_RESULTS, known.data, known.size);
        return;
    }
    if (is_open(id)) return;
    if (size > MAX_MESSAGE || (!at_end && size > SMALL_MESSAGE)) {
        say_error(id, ERROR_LIMIT, "the message is too long", size, at_end ? MAX_MESSAGE : SMALL_MESSAGE);
        return;
    }
    if (at_end && size >= WIRE_MESSAGE_SIZE && data[1] & FLAG_PACKED) size = unpack(size);
    const enum read_outcome outcome = request_read(data, size, &request);
    if (outcome == READ_UNKNOWN) {
        say_error(id, ERROR_UNSUPPORTED, "the operation is not known to this version", data[0], 0);
    } else if (outcome == READ_MALFORMED) {
        say_error(id, ERROR_MALFORMED, "the body cannot be read", 0, 0);
    } else if (missing(&request)) {
        say_error(id, ERROR_UNSUPPORTED, "this chip lacks a capability, by its bit", missing(&request), 0);
    } else if (!extras_allow(&request, data, size, &counter, &refusal)) {
        say_error(id, refusal.code, refusal.text, refusal.value, refusal.limit);
    } else if (request.op == OP_OUTPUTS_OFF || request.op == OP_RESET) {
        overtake(&request, counter);
    } else if (request.op == OP_STATUS) {
        status(&request);
    } else if (server.count == JOBS_WAITING || server.arena_end + size > 2u * MAX_MESSAGE) {
        say_error(id, ERROR_BUSY, "too much is queued", server.arena_end + size, 2 * (int64_t)MAX_MESSAGE);
    } else {
        if (!at_end) memcpy(server.arena + server.arena_end, data, size);
        server.waiting[server.count++] = (struct waiting){server.arena_end, size, id, counter};
        server.arena_end += size;
    }
}

/* Other channels than bulk have little room: a long message there is refused, whatever it says. */
static void part(uint8_t channel, const uint8_t *data, uint16_t size, bool last) {
    struct assembly *assembly = &server.assembly[channel];
    const bool bulk = channel == CHANNEL_BULK;
    uint8_t *room = bulk ? server.arena + server.arena_end : assembly->small;
    const uint32_t limit = bulk ? MAX_MESSAGE : SMALL_MESSAGE;
    const uint32_t kept = assembly->size < limit ? assembly->size : limit;
    memcpy(room + kept, data, size < limit - kept ? size : limit - kept);
    assembly->size = assembly->size > UINT32_MAX - size ? UINT32_MAX : assembly->size + size;
    if (!last) return;
    const uint32_t whole = assembly->size;
    assembly->size = 0;
    accept(room, whole, bulk);
}

static const struct link_owner OWNER = {greet, part, lost};

/* --- work --------------------------------------------------------------------------------------- */

/* Copies the oldest request out of the arena and closes the gap. */
static void begin(void) {
    const struct waiting first = server.waiting[0];
    memcpy(server.running_bytes, server.arena, first.size);
    close_gap(first.size);
    server.count--;
    for (uint32_t i = 0; i < server.count; i++) {
        server.waiting[i] = server.waiting[i + 1];
        server.waiting[i].start -= first.size;
    }
    request_read(server.running_bytes, first.size, &server.request);
    server.packs = server.running_bytes[1] & FLAG_ANSWER_PACKED;
    server.reply = replies_building();
    server.job = (struct job){.request = &server.request, .reply = &server.reply};
    server.op = server.request.op;
    server.counter = first.counter;
    server.running = true;
    server.told_us = server.now_us;
}

static void tell_progress(void) {
    struct reply message = {server.progress, sizeof server.progress, 0};
    server.told_us = server.now_us;
    if (!send_drop(&server.link.send, server.progress)) return; /* the last one is still on its way */
    reply_begin(&message, OP_PROGRESS, server.request.id, chip_time_ns());
    wire_put_progress(reply_room(&message, WIRE_PROGRESS_SIZE), &server.job.progress);
    link_send(&server.link, CHANNEL_EVENTS, server.progress, message.size);
}

static bool drives(uint8_t op) {
    return op == OP_PROGRAM_TILE || op == OP_PULSE || op == OP_READ_CELLS || op == OP_MVM || op == OP_SWEEP ||
           op == OP_RUN_PLAN;
}

/* One slice of the request, or of the message that stands in the image for it. */
static enum work slice(bool first) {
    if (first && extras_take(&server.job, server.counter) != WORK_DONE) return WORK_REFUSED;
    if (first && server.op == OP_IMAGE_TILE && extras_tile(&server.job, &server.request) != WORK_DONE) return WORK_REFUSED;
    if (extras_needs(server.request.op)) return extras_work(&server.job, server.host, server.now_us);
    if (drives(server.request.op)) server.outputs_on = true;
    return server.handlers->work(&server.job);
}

static void work(void) {
    server.missed = false;
    const bool first = !server.running;
    if (first) begin();
    server.job.tell_progress = false;
    const enum work outcome = slice(first);
    if (outcome == WORK_MORE) {
        const bool late = server.now_us - server.told_us >= PROGRESS_EVERY_US;
        if (server.job.tell_progress || (late && server.job.progress.total)) tell_progress();
        return;
    }
    server.running = false;
    if (outcome == WORK_REFUSED) {
        const struct refusal *r = &server.job.refusal;
        say_error(server.request.id, r->code, r->text, r->value, r->limit);
    } else if (server.reply.size > server.reply.room) {
        say_error(server.request.id, ERROR_LIMIT, "the reply is too long; ask for less", 0, MAX_MESSAGE);
    } else {
        put_u64(server.reply.data + WIRE_MESSAGE_SIZE, chip_time_ns());
        extras_done(server.host, server.request.id, server.op, &server.reply);
        if (server.packs) server.reply.size = packed_write(server.reply.data, server.reply.size, server.running_bytes, MAX_MESSAGE);
        say(server.request.id, &server.reply);
    }
}

uint32_t server_taken(uint8_t *out) {
    uint8_t body[64];
    struct reply reply = {body, sizeof body, 0};
    reply_error(&reply, 0, 0, ERROR_BUSY, "another host is served", 0, 0);
    const struct frame frame = {
        .flags = FLAG_RESET | FLAG_LAST, .channel = CHANNEL_CONTROL, .payload = body, .length = (uint16_t)reply.size};
    return frame_encode(&frame, out);
}

void server_receive(const uint8_t *data, uint32_t size, uint64_t now_us) {
    while (size--) link_receive(&server.link, *data++, now_us);
}

/* Work waits while its replies cannot leave: the far side's pace is ours. So it does while nobody is there. */
static bool may_work(void) {
    const bool held_up = server.missed && server.missed_us == server.link.heard_us;
    return server_busy() && !held_up && !(server.link.up && send_backed_up(&server.link.send));
}

uint32_t server_transmit(uint64_t now_us, uint8_t *out) {
    server.now_us = now_us;
    uint32_t size = link_transmit(&server.link, now_us, out);
    if (now_us >= off_at_us()) miss_host();
    if (!size && may_work()) {
        work();
        size = link_transmit(&server.link, now_us, out);
    }
    if (server.off_due && !server_busy()) {
        server.off_due = false;
        switch_off();
    }
    if (server.restart_due && send_idle(&server.link.send)) restart();
    return size;
}

uint64_t server_deadline(uint64_t now_us) {
    const uint64_t due_us = may_work() ? now_us : link_deadline(&server.link, now_us);
    return due_us < off_at_us() ? due_us : off_at_us();
}
