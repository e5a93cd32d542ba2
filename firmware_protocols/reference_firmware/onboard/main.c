/* A host of the package: this machine is the payload computer, the model of a die is its macro. The die takes the writes
 * of the run first, at the chip time of the run, so that each read gives the codes that it gave there. */
#include <stdio.h>
#include <time.h>

#include "core/chip.h"
#include "die/die.h"
#include "network.h"
#include "onboard/hil_payload.h"

#define APPLY(name, value) die_set(name, value);

static uint8_t pixels[1 << 20], written[MAX_MESSAGE], readings[4 * MAX_MESSAGE];

void die_convert(const struct array_read *read, int16_t *codes);
void die_spend_ns(uint64_t duration_ns);
void die_outputs(bool on);

static void macro(const struct array_read *read, int16_t *codes) {
    if (!read) die_outputs(false);
    else die_convert(read, codes);
}

static bool store(uint32_t first, uint32_t count, uint32_t *words) {
    if (first > network_size || count > network_size - first) return false;
    memcpy(words, network_words + first, 4 * count);
    return true;
}

static void say(const char *text, int64_t value) { fprintf(stderr, "refused: %s (%lld)\n", text, (long long)value); }

static uint64_t now_us(void) { return (uint64_t)clock() * 1000000u / CLOCKS_PER_SEC; }

/* Each write of the run: chip time before it, size, and the message. */
static bool write_cells(FILE *file) {
    uint8_t head[12];
    while (fread(head, sizeof head, 1, file)) {
        static struct request request;
        struct reply reply = {readings, sizeof readings, 0};
        struct job job = {.request = &request, .reply = &reply};
        const uint32_t size = get_u32(head + 8);
        if (size > sizeof written || !fread(written, size, 1, file)) return false;
        if (request_read(written, size, &request) != READ_WELL) return false;
        die_spend_ns(get_u64(head) - macro_time_ns());
        enum work work = WORK_MORE;
        while (work == WORK_MORE) {
            slice_begin();
            if (request.op == OP_WAIT) {
                macro_wait_ns(request.wait.duration_ns);
                macro_settle();
                work = WORK_DONE;
            } else {
                work = request.op == OP_PULSE ? chip_pulse(&job) : chip_program(&job);
            }
        }
        if (work != WORK_DONE || reply.size > reply.room) return false;
    }
    return true;
}

int main(int count, char **words) {
    static const struct hil_board board = {macro, store, say, now_us};
    FILE *writes = fopen("writes.bin", "rb"), *images = count == 2 ? fopen(words[1], "rb") : NULL;
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    macro_start();
    if (!images || !writes || !hil_start(&board) || !write_cells(writes)) {
        fprintf(stderr, "payload IMAGES, beside writes.bin: raw bytes, one image after the other\n");
        return 2;
    }
    if (hil_image_bytes() > sizeof pixels) return 2;
    for (uint64_t n = 0; fread(pixels, hil_image_bytes(), 1, images); n++) {
        enum hil_state state = HIL_MORE;
        hil_begin(pixels, network_sample + n);
        while (state == HIL_MORE) state = hil_step(); /* a watchdog is served here */
        if (state == HIL_REFUSED) return 1;
        for (uint32_t i = 0; i < hil_logits(); i++) printf("%ld%c", (long)hil_logit(i), i + 1 < hil_logits() ? ' ' : '\n');
    }
    return 0;
}
