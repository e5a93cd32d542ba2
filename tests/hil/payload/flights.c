/* Faults of a package on this machine: flights upsets N | registers N | golden N | update | restarts N. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "die_macro.h"
#include "network.h"
#include "onboard/hil_payload.h"

static uint8_t pixels[IMAGE_BYTES];
static uint32_t *memory; /* 3 * SLOT_WORDS, of this process and its children */
static uint64_t random_state = 1;
static uint32_t struck_reads, writes_left = 1u << 30, torn_words;
static bool dead, silent_macro;

static uint32_t drawn(uint32_t below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((random_state >> 33) % below);
}

/* Two hours of a virtual clock, an image each period, at the work of a Cortex-M4 of 80 MHz: instructions of EuroSAT's package
 * between two calls of the board, under `qemu-system-arm -icount`; the longest are the 775,725 before an image's first read. */
enum { PERIOD_US = 9460000, WATCHDOG_US = 30000, LOOK_US = 15, READ_US = 50, GROUP_US = 50, LONGEST_US = 9700, BUSY_US = 500000 };
static const uint64_t END_US = 7200ull * 1000000;
static struct {
    uint64_t now_us, restart_us, served_us;
    uint32_t images, wrong, late, bites, longest_us, slowest_us;
} *flight; /* what a restart leaves */

static void spend(uint32_t us) {
    if (!flight) return;
    flight->now_us += us;
    if (flight->now_us >= flight->restart_us) _exit(0);
}

static bool macro(const struct array_read *read, int16_t *codes) {
    die_macro(read, codes);
    spend(READ_US);
    if (!read) return true;
    if (silent_macro) memset(codes, 0, CHIP_CONVERSIONS(read->outputs) * sizeof *codes);
    if (!struck_reads || drawn(4)) return true;
    struck_reads--;
    for (uint32_t i = 0; i < CHIP_CONVERSIONS(read->outputs); i++) codes[i] = (int16_t)(codes[i] ^ 16); /* another range */
    return false;
}

static bool store(uint32_t first, uint32_t count, uint32_t *words, bool write) {
    if (!write) spend(GROUP_US);
    if (dead || first > 3 * SLOT_WORDS || count > 3 * SLOT_WORDS - first) return false;
    if (!write) return memcpy(words, memory + first, 4 * count) != NULL;
    if (first >= 2 * SLOT_WORDS) return false;
    dead = !writes_left--;
    if (flight) memcpy(memory + first, words, 4 * drawn(count)); /* a restart tears it */
    spend(GROUP_US);
    memcpy(memory + first, words, 4 * (dead ? torn_words : count));
    return !dead;
}

static void quiet(const char *text, int64_t value) { (void)text, (void)value; }
static uint64_t now(void) {
    spend(drawn(64) ? LOOK_US : LONGEST_US);
    return flight ? flight->now_us : 0;
}
static const struct hil_board board = {macro, store, quiet, now};

static void *shared(size_t size) { return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }

static bool started(void) {
    enum hil_state state = HIL_MORE;
    for (hil_start(&board); state == HIL_MORE;) state = hil_load();
    return state == HIL_DONE;
}

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
    enum hil_state state = HIL_DONE;
    for (uint32_t at = 1 + HIL_GROUP; at < count && state == HIL_DONE; at += 1 + HIL_GROUP)
        for (state = HIL_MORE; state == HIL_MORE;) state = hil_update_part(groups[at], groups + at + 1);
    for (state = state == HIL_DONE ? HIL_MORE : state; state == HIL_MORE;) state = hil_update_end();
    return state == HIL_DONE;
}

static void serve(void) {
    const uint32_t us = (uint32_t)(flight->now_us - flight->served_us);
    flight->bites += us > WATCHDOG_US;
    if (us > flight->longest_us) flight->longest_us = us;
    flight->served_us = flight->now_us;
}

/* From a restart on: nothing is known but the store, what `flight` keeps, and the clock. */
static void fly(FILE *writes, FILE *images, int32_t (*right)[PLAN_LOGITS], uint32_t known) {
    void *const kept = flight;
    enum hil_state state = HIL_MORE;
    flight->served_us = flight->now_us;
    for (hil_start(&board); state == HIL_MORE; serve()) state = hil_load();
    flight = NULL; /* its cells were written long ago */
    if (state == HIL_REFUSED || !die_begin(writes)) _exit(1);
    flight = kept;
    while (flight->now_us < END_US) {
        const uint64_t came_us = (uint64_t)flight->images * PERIOD_US;
        if (flight->now_us < came_us) {
            spend(WATCHDOG_US / 2);
            serve();
            continue;
        }
        const uint32_t image = flight->images % known;
        if (fseek(images, (long)image * IMAGE_BYTES, SEEK_SET) || !fread(hil_room(), IMAGE_BYTES, 1, images)) _exit(1);
        hil_begin(hil_room(), network_sample + image);
        for (state = HIL_MORE; state == HIL_MORE; serve()) state = hil_step();
        for (uint32_t i = 0; i < hil_logits(); i++)
            if (state == HIL_REFUSED || hil_logit(i) != right[image][i]) flight->wrong++;
        const uint32_t us = (uint32_t)(flight->now_us - came_us);
        if (us > flight->slowest_us) flight->slowest_us = us;
        flight->late += us > PERIOD_US;
        flight->images++;
        memory[drawn(network_size)] ^= 1u << drawn(32);
        for (state = HIL_MORE; state == HIL_MORE; serve()) state = hil_golden(1000000 + 100 * flight->images);
        flight->wrong += state == HIL_REFUSED;
        for (bool last = false; !last; serve()) last = hil_scrub();
    }
    _exit(0);
}

static int earlier(const void *a, const void *b) {
    return (*(const uint64_t *)a > *(const uint64_t *)b) - (*(const uint64_t *)a < *(const uint64_t *)b);
}

/* Restarts at any instant, at one while there is work, and while the restart before is still under way, in turn. */
static int restarts(FILE *writes, FILE *images, uint32_t turns) {
    uint64_t instants[1000];
    int32_t right[100][PLAN_LOGITS];
    uint32_t known = 0, numbers = 0, now;
    FILE *answers = fopen("answers.txt", "r");
    while (answers && numbers < 100 * PLAN_LOGITS && fscanf(answers, "%d", &right[0][0] + numbers) == 1) numbers++;
    known = numbers / PLAN_LOGITS;
    for (uint32_t i = 0; i < turns; i++) {
        instants[i] = (uint64_t)drawn(7200) * 1000000 + drawn(1000000);
        if (i % 3 == 1) instants[i] = instants[i] / PERIOD_US * PERIOD_US + drawn(BUSY_US);
        if (i % 3 == 2) instants[i] = instants[i - 1] + drawn(BUSY_US);
    }
    qsort(instants, turns, sizeof *instants, earlier);
    flight = shared(sizeof *flight);
    for (now = 0; now <= turns; now++) {
        int status;
        flight->restart_us = now < turns ? instants[now] : UINT64_MAX;
        random_state += now;
        rewind(writes);
        const pid_t child = fork();
        if (!child) fly(writes, images, right, known);
        if (child < 0 || waitpid(child, &status, 0) != child || status) return 4;
    }
    printf("restarts %u images %u wrong %u late %u watchdog %u\n", turns, flight->images, flight->wrong, flight->late,
           flight->bites);
    fprintf(stderr, "slowest answer %u us, longest without the watchdog %u us\n", flight->slowest_us, flight->longest_us);
    return 0;
}

int main(int count, char **words) {
    int32_t right[PLAN_LOGITS], found[PLAN_LOGITS], newer[PLAN_LOGITS];
    FILE *writes = fopen("writes.bin", "rb"), *images = fopen("images.bin", "rb");
    const uint32_t turns = count > 2 ? (uint32_t)atoi(words[2]) : 0;
    uint32_t wrong = 0, refused = 0, old = 0;
    memory = shared(12 * SLOT_WORDS);
    memcpy(memory, network_words, 4 * network_size);
    memcpy(memory + 2 * SLOT_WORDS, network_words, 4 * network_size);
    if (!writes || !images) return 2;
    if (!strcmp(words[1], "restarts")) return restarts(writes, images, turns);
    if (!fread(pixels, IMAGE_BYTES, 1, images)) return 2;
    if (!started() || !die_begin(writes) || !answers(right, network_sample)) return 2;
    if (!strcmp(words[1], "upsets")) {
        for (uint32_t n = 0; n < turns; n++) {
            memory[drawn(network_size)] ^= 1u << drawn(32);
            if (!started() || !answers(found, network_sample)) refused++;
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
        if (!update(size) || !started() || !answers(newer, network_sample)) return 3;
        for (bool whole = false; !whole; calls++)
            for (torn_words = 0; torn_words < HIL_GROUP; torn_words++) {
                memset(memory, 0, 8 * SLOT_WORDS);
                memcpy(memory, network_words, 4 * network_size);
                started();
                writes_left = calls;
                whole = update(size);
                dead = false;
                writes_left = 1u << 30;
                if (!started() || !answers(found, network_sample)) refused++;
                else if (!memcmp(found, newer, sizeof found)) news++;
                else if (!memcmp(found, right, sizeof found)) old++;
                else wrong++;
            }
        printf("calls %u old %u new %u mixed %u refused %u differ %d\n", calls - 1, old, news, wrong, refused,
               memcmp(right, newer, sizeof newer) != 0);
    }
    return 0;
}
