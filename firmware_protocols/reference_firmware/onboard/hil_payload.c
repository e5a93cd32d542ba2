/* The network of a package: read from the store as the messages that loaded it, then run by the sequencer (plan/). */
#include "hil_payload.h"

#include "../plan/plan.h"
#include "stored.h"

#pragma GCC optimize("Os") /* small before fast */

enum { ANSWER_ROOM = 72 + 8 * PLAN_STEPS + 4 * PLAN_LOGITS, TRIES = HIL_REGISTERS ? 3 : 1 };

static const struct hil_board *board;
static struct request request;
static uint8_t answer[ANSWER_ROOM];
static struct reply reply = {answer, sizeof answer, 0};
static struct job job;
static struct wire_ints logits;
static bool stuck; /* registers that stay wrong */

uint64_t board_us(void) { return board->time(); }

void macro_convert(const struct array_read *read, int16_t *codes) {
    for (uint32_t turn = 0; turn < TRIES && !board->macro(read, codes); turn++) {
        hil_counts.registers++;
        stuck |= HIL_REGISTERS && turn + 1 == TRIES;
    }
}

void macro_spend_ns(uint64_t duration_ns) { (void)duration_ns; }

static enum hil_state refused(const char *text, int64_t value) {
    hil_counts.refused++;
    board->macro(NULL, NULL);
    board->log(text, value);
    return HIL_REFUSED;
}

static enum hil_state loaded(const uint8_t *message, uint32_t size) {
    job = (struct job){.request = &request, .reply = &reply};
    if (request_read(message, size, &request) != READ_WELL) return refused("a stored message cannot be read", size);
    if (request.op != OP_LOAD_LAYER && request.op != OP_LOAD_PLAN) return refused("no layer and no plan", request.op);
    if ((request.op == OP_LOAD_LAYER ? chip_load_layer(&job) : plan_load(&job)) == WORK_DONE) return HIL_MORE;
    return refused(job.refusal.text, job.refusal.value);
}

static struct {
    uint8_t *message;
    uint32_t at, end, size, have; /* next stored word, end of the messages; bytes of the next one, and those read */
} load;

/* A group of stored words: of the search for a whole slot, then of the messages; each is loaded when it is there. */
static enum hil_state load_group(void) {
    uint32_t word;
    if (!load.at) {
        const enum hil_state state = stored_find();
        if (state == HIL_REFUSED) return refused("no whole network is stored", 0);
        if (state == HIL_DONE && !stored_word(STORED_MESSAGES, &load.end)) return refused("stored words are lost", load.at);
        if (state == HIL_DONE) load.at = STORED_HEAD;
        return HIL_MORE;
    }
    if (!load.size) {
        if (load.at >= load.end && plan.ready && plan.width <= PLAN_LOGITS) return HIL_DONE;
        if (load.at >= load.end) return refused("no whole plan is stored", plan.have);
        if (!stored_word(load.at++, &load.size)) return refused("stored words are lost", load.at);
        if (!load.size || load.size > STORED_MESSAGE) return refused("a stored message is too long", load.size);
        load.have = 0;
    }
    for (uint32_t i = 0; i < STORED_HEAD && load.have < load.size; i++) {
        if (!stored_word(load.at++, &word)) return refused("stored words are lost", load.at);
        for (uint32_t b = 0; b < 4 && load.have < load.size; b++) load.message[load.have++] = (uint8_t)(word >> 8 * b);
    }
    if (load.have < load.size) return HIL_MORE;
    load.size = 0;
    return loaded(load.message, load.have);
}

void hil_start(const struct hil_board *given) {
    board = given;
    layers_forget();
    plan_forget();
    stored_begin(board);
    load.message = plan_spare(STORED_MESSAGE);
    load.at = load.size = 0;
}

enum hil_state hil_load(void) {
    enum hil_state state;
    slice_begin();
    do state = load_group();
    while (state == HIL_MORE && !slice_over());
    return state;
}

uint32_t hil_image_bytes(void) { return plan_value(0).size; }

uint8_t *hil_room(void) { return plan_spare(IMAGE_BYTES); }

uint32_t hil_logits(void) { return plan.width; }

void hil_begin(const uint8_t *pixels, uint64_t sample) {
    const struct value image = plan_value(0);
    request = (struct request){.op = OP_RUN_PLAN, .values = {pixels, image.size, 1}};
    request.run_plan = (struct wire_run_plan){
        .passes = 1, .sample = sample, .images = 1,
        .height = image.lengths[1], .width = image.lengths[2], .channels = image.lengths[0],
    };
    job = (struct job){.request = &request, .reply = &reply};
}

/* An array of the answer; the place behind it. */
static const uint8_t *take(const uint8_t *at, uint32_t count, struct wire_ints *to) {
    *to = (struct wire_ints){at + 1, count, *at};
    return at + 1 + (*at & 0x0F) * count;
}

enum hil_state hil_step(void) {
    slice_begin();
    stuck = false;
    const enum work work = plan_run(&job);
    if (work == WORK_MORE && !stuck) return HIL_MORE;
    if (stuck) return refused("registers of a macro stay wrong", hil_counts.registers);
    if (work == WORK_REFUSED) return refused(job.refusal.text, job.refusal.value);
    hil_counts.images++;
    board->macro(NULL, NULL);
    const uint8_t *at = answer + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_PLAN_RESULT_SIZE;
    for (uint32_t i = 0; i < 2; i++) at = take(at, plan.steps, &logits); /* saturated conversions, and all */
    take(at, plan.width, &logits);
    return HIL_DONE;
}

int32_t hil_logit(uint32_t number) { return (int32_t)ints_get(&logits, number); }

#if HIL_GOLDEN
enum hil_state hil_golden(uint64_t sample) {
    static uint64_t distance;
    static uint32_t at, left, read; /* the next stored word, images to run, bytes of the next one that are there */
    static bool running;
    uint32_t word, limit[2];
    if (!running) {
        const uint32_t bytes = hil_image_bytes();
        uint8_t *const pixels = hil_room();
        slice_begin();
        if (!left) {
            distance = 0;
            if (!stored_word(STORED_MESSAGES, &at) || !stored_word(STORED_GOLDEN, &left) || !left) return HIL_DONE;
        }
        while (read < bytes) {
            if (slice_over()) return HIL_MORE;
            if (!stored_word(at++, &word)) return left = read = 0, HIL_REFUSED;
            for (uint32_t b = 0; b < 4 && read < bytes; b++) pixels[read++] = (uint8_t)(word >> 8 * b);
        }
        hil_begin(pixels, sample + left);
        running = true;
        read = 0;
        return HIL_MORE;
    }
    const enum hil_state state = hil_step();
    if (state == HIL_MORE) return HIL_MORE;
    running = false;
    left = state == HIL_DONE ? left - 1 : 0;
    for (uint32_t i = 0; state == HIL_DONE && i < hil_logits(); i++) {
        if (!stored_word(at++, &word)) return left = 0, HIL_REFUSED;
        const int64_t off = (int64_t)hil_logit(i) - (int32_t)word;
        distance += (uint64_t)(off * off);
    }
    if (state != HIL_DONE || left) return state == HIL_DONE ? HIL_MORE : HIL_REFUSED;
    if (!stored_word(STORED_LIMIT, limit) || !stored_word(STORED_LIMIT + 1, limit + 1)) return HIL_REFUSED;
    if (distance <= ((uint64_t)limit[1] << 32 | limit[0])) return HIL_DONE;
    hil_counts.golden++;
    return refused("golden vectors are further off than noise", (int64_t)distance);
}
#endif
