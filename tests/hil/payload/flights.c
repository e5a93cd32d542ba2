/* Faults of a package's store, registers and updates on this machine: flights upsets N | registers N | golden N | update. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "die_macro.h"
#include "network.h"
#include "onboard/hil_payload.h"

static uint8_t pixels[IMAGE_BYTES];
static uint32_t memory[3 * SLOT_WORDS];
static uint64_t random_state = 1;
static uint32_t struck_reads, writes_left = 1u << 30, torn_words;
static bool dead, silent_macro;

static uint32_t drawn(uint32_t below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((random_state >> 33) % below);
}

static bool macro(const struct array_read *read, int16_t *codes) {
    die_macro(read, codes);
    if (!read) return true;
    if (silent_macro) memset(codes, 0, CHIP_CONVERSIONS(read->outputs) * sizeof *codes);
    if (!struck_reads || drawn(4)) return true;
    struck_reads--;
    for (uint32_t i = 0; i < CHIP_CONVERSIONS(read->outputs); i++) codes[i] = (int16_t)(codes[i] ^ 16); /* another range */
    return false;
}

static bool store(uint32_t first, uint32_t count, uint32_t *words, bool write) {
    if (dead || first > 3 * SLOT_WORDS || count > 3 * SLOT_WORDS - first) return false;
    if (!write) return memcpy(words, memory + first, 4 * count) != NULL;
    if (first >= 2 * SLOT_WORDS) return false;
    dead = !writes_left--;
    memcpy(memory + first, words, 4 * (dead ? torn_words : count));
    return !dead;
}

static void quiet(const char *text, int64_t value) { (void)text, (void)value; }
static uint64_t now(void) { return 0; }
static const struct hil_board board = {macro, store, quiet, now};

static bool answers(int32_t *logits, uint64_t sample) {
    enum hil_state state = HIL_MORE;
    hil_begin(pixels, sample);
    while (state == HIL_MORE) state = hil_step();
    for (uint32_t i = 0; i < hil_logits(); i++) logits[i] = hil_logit(i);
    return state == HIL_DONE;
}

static uint32_t groups[64 * 1024];

/* The update of a file: number of each group, then its words. */
static bool update(uint32_t count) {
    if (!hil_update_begin(groups + 1)) return false;
    for (uint32_t at = 1 + HIL_GROUP; at < count; at += 1 + HIL_GROUP)
        if (!hil_update_part(groups[at], groups + at + 1)) return false;
    return hil_update_end();
}

int main(int count, char **words) {
    int32_t right[PLAN_LOGITS], found[PLAN_LOGITS], newer[PLAN_LOGITS];
    FILE *writes = fopen("writes.bin", "rb"), *images = fopen("images.bin", "rb");
    const uint32_t turns = count > 2 ? (uint32_t)atoi(words[2]) : 0;
    uint32_t wrong = 0, refused = 0, old = 0;
    memcpy(memory, network_words, 4 * network_size);
    memcpy(memory + 2 * SLOT_WORDS, network_words, 4 * network_size);
    if (!writes || !images || !fread(pixels, IMAGE_BYTES, 1, images)) return 2;
    if (!hil_start(&board) || !die_begin(writes) || !answers(right, network_sample)) return 2;
    if (!strcmp(words[1], "upsets")) {
        for (uint32_t n = 0; n < turns; n++) {
            memory[drawn(network_size)] ^= 1u << drawn(32);
            if (!hil_start(&board) || !answers(found, network_sample)) refused++;
            else wrong += memcmp(found, right, sizeof found) != 0;
            while (!hil_scrub()) {}
            if (memcmp(memory, network_words, 4 * network_size)) old++; /* left struck */
            memcpy(memory, network_words, 4 * network_size);
        }
        printf("wrong %u refused %u struck %u mended %u lost %u\n", wrong, refused, old, hil_counts.mended, hil_counts.lost);
    } else if (!strcmp(words[1], "registers")) {
        for (uint32_t n = 0; n < turns; n++) {
            struck_reads = 1;
            if (!answers(found, network_sample)) refused++;
            else wrong += memcmp(found, right, sizeof found) != 0;
        }
        printf("wrong %u refused %u repeated %u\n", wrong, refused, hil_counts.registers);
    } else if (!strcmp(words[1], "golden")) {
        for (uint32_t n = 0; n <= turns; n++) {
            enum hil_state state = HIL_MORE;
            silent_macro = n == turns;
            while (state == HIL_MORE) state = hil_golden(1000000 + 100 * n);
            if (n < turns) refused += state == HIL_REFUSED;
            else wrong = state == HIL_REFUSED;
        }
        printf("alarms %u of %u, of a dead macro %u\n", refused, turns, wrong);
    } else {
        FILE *file = fopen("update.bin", "rb");
        const uint32_t size = file ? (uint32_t)fread(groups, 4, sizeof groups / 4, file) : 0;
        uint32_t calls = 0, news = 0;
        if (!update(size) || !hil_start(&board) || !answers(newer, network_sample)) return 3;
        for (bool whole = false; !whole; calls++)
            for (torn_words = 0; torn_words < HIL_GROUP; torn_words++) {
                memset(memory, 0, 8 * SLOT_WORDS);
                memcpy(memory, network_words, 4 * network_size);
                hil_start(&board);
                writes_left = calls;
                whole = update(size);
                dead = false;
                writes_left = 1u << 30;
                if (!hil_start(&board) || !answers(found, network_sample)) refused++;
                else if (!memcmp(found, newer, sizeof found)) news++;
                else if (!memcmp(found, right, sizeof found)) old++;
                else wrong++;
            }
        printf("calls %u old %u new %u mixed %u refused %u differ %d\n", calls - 1, old, news, wrong, refused,
               memcmp(right, newer, sizeof newer) != 0);
    }
    return 0;
}
