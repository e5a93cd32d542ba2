/* The network of a package: read from the store as the messages that loaded it, then run by the sequencer (plan/). */
#include "hil_payload.h"

#include "../plan/plan.h"

#pragma GCC optimize("Os") /* small before fast */

/* Words of a store: this one, how many there are, then each message as its size in bytes and its words. Byte i of a
 * message is bits 8 · (i mod 4) onwards of its word i / 4, whatever the machine's own order. */
enum { STORE_BEGINS = 0x4B50494C, ANSWER_ROOM = 72 + 8 * PLAN_STEPS + 4 * PLAN_LOGITS };

static const struct hil_board *board;
static struct request request;
static uint8_t message[STORED_MESSAGE], answer[ANSWER_ROOM];
static struct reply reply = {answer, sizeof answer, 0};
static struct job job;
static struct wire_ints logits;

uint64_t board_us(void) { return board->time(); }

void macro_convert(const struct array_read *read, int16_t *codes) { board->macro(read, codes); }

void macro_spend_ns(uint64_t duration_ns) { (void)duration_ns; }

static bool refused(const char *text, int64_t value) {
    board->log(text, value);
    return false;
}

static bool load(uint32_t size) {
    job = (struct job){.request = &request, .reply = &reply};
    if (request_read(message, size, &request) != READ_WELL) return refused("a stored message cannot be read", size);
    if (request.op != OP_LOAD_LAYER && request.op != OP_LOAD_PLAN) return refused("no layer and no plan", request.op);
    if ((request.op == OP_LOAD_LAYER ? chip_load_layer(&job) : plan_load(&job)) == WORK_DONE) return true;
    return refused(job.refusal.text, job.refusal.value);
}

bool hil_start(const struct hil_board *given) {
    uint32_t head[2], at = 2;
    board = given;
    layers_forget();
    plan_forget();
    if (!board->store(0, 2, head) || head[0] != STORE_BEGINS) return refused("no network is stored", head[0]);
    while (at < head[1]) {
        uint32_t size, word;
        if (!board->store(at++, 1, &size) || size > sizeof message) return refused("a stored message is too long", at);
        for (uint32_t i = 0; i < size; i += 4) {
            if (!board->store(at++, 1, &word)) return refused("the store ends early", at);
            for (uint32_t b = 0; b < 4 && i + b < size; b++) message[i + b] = (uint8_t)(word >> 8 * b);
        }
        if (!load(size)) return false;
    }
    return plan.ready && plan.width <= PLAN_LOGITS ? true : refused("no whole plan is stored", plan.have);
}

uint32_t hil_image_bytes(void) { return plan_value(0).size; }

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
    const enum work work = plan_run(&job);
    if (work == WORK_MORE) return HIL_MORE;
    board->macro(NULL, NULL);
    if (work == WORK_REFUSED) {
        refused(job.refusal.text, job.refusal.value);
        return HIL_REFUSED;
    }
    const uint8_t *at = answer + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_PLAN_RESULT_SIZE;
    for (uint32_t i = 0; i < 2; i++) at = take(at, plan.steps, &logits); /* saturated conversions, and all */
    take(at, plan.width, &logits);
    return HIL_DONE;
}

int32_t hil_logit(uint32_t number) { return (int32_t)ints_get(&logits, number); }
