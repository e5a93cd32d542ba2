/* Flips in a package on this machine, where it is compiled and run by package_flips.py: flips < LINES prints a letter for
 * each line "place offset bit image moment".
 * RAM is that of the network: its section `flight_ram`, and the stack from a call of the macro up. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "die_macro.h"
#include "network.h"
#include "onboard/hil_payload.h"

enum { IMAGES = 100, NEVER = -1, CPU_S = 3, GOLDEN_SAMPLE = 1000000 };
enum { RIGHT = 'r', LOGITS = 'o', CLASS = 'c', REFUSED = 'n', CLASS_GOLDEN = 'g', LEFT = 's', ALARM = 'a', CRASH = 'x' };

extern uint8_t __start_flight_ram[], __stop_flight_ram[];

static uint8_t images[IMAGES][IMAGE_BYTES], *stack_end;
static int32_t right[IMAGES][PLAN_LOGITS];
static uint32_t memory[3 * SLOT_WORDS], calls[IMAGES], call;
static int64_t strike_at = NEVER;
static struct {
    char place; /* s: byte of the store; r: share of RAM in 2^-32; a: byte of `flight_ram`, before the image; n: nothing */
    uint64_t offset;
    uint32_t bit, image, moment; /* share of the macro's calls in 2^-16 */
} flip;

/* Reads of the runs without a flip, by a hash of all that they depend on: the model of a die gives them again. */
enum { KNOWN = 1 << 20 };
static struct {
    uint64_t key;
    int16_t codes[CHIP_CONVERSIONS(CHIP_OUTPUTS)];
} known[KNOWN] __attribute__((aligned(1 << 21)));
static bool learning;

static uint64_t key_of(const struct array_read *read) {
    uint64_t numbers[9 + 32] = {read->macro, read->row0, read->output0, read->outputs, read->range_code,
                                read->sample, read->position, read->plane, read->on_count};
    uint64_t key = 0xCBF29CE484222325ull;
    memcpy(numbers + 9, read->on, read->on_count);
    for (uint32_t i = 0; i < 9 + (read->on_count + 7) / 8; i++) {
        key = (key ^ numbers[i]) * 0x9E3779B97F4A7C15ull;
        key ^= key >> 29;
    }
    return key | 1;
}

static void convert(const struct array_read *read, int16_t *codes) {
    const size_t size = CHIP_CONVERSIONS(read->outputs) * sizeof *codes;
    const uint64_t key = key_of(read);
    uint64_t at = key % KNOWN;
    while (known[at].key && known[at].key != key) at = (at + 1) % KNOWN;
    if (known[at].key) {
        memcpy(codes, known[at].codes, size);
        return;
    }
    die_macro(read, codes);
    if (!learning) return;
    known[at].key = key;
    memcpy(known[at].codes, codes, size);
}

static void strike(uint8_t *stack) {
    const uint64_t ram = (uint64_t)(__stop_flight_ram - __start_flight_ram), live = (uint64_t)(stack_end - stack);
    const uint64_t at = flip.place == 'r' ? flip.offset * (ram + live) >> 32 : flip.offset;
    uint8_t *const byte = flip.place == 's' ? (uint8_t *)memory + at : at < ram ? __start_flight_ram + at : stack + (at - ram);
    *byte = (uint8_t)(*byte ^ 1u << flip.bit);
}

static bool macro(const struct array_read *read, int16_t *codes) {
    if (read && call++ == strike_at) strike(__builtin_frame_address(0));
    if (read) convert(read, codes);
    else die_macro(read, codes);
    return true;
}

static bool store(uint32_t first, uint32_t count, uint32_t *words, bool write) {
    if (first > 3 * SLOT_WORDS || count > 3 * SLOT_WORDS - first || (write && first >= 2 * SLOT_WORDS)) return false;
    if (write) memcpy(memory + first, words, 4 * count);
    else memcpy(words, memory + first, 4 * count);
    return true;
}

static void quiet(const char *text, int64_t value) { (void)text, (void)value; }
static uint64_t tick(void) { static uint64_t us; return us += 100; }
static const struct hil_board board = {macro, store, quiet, tick};

static bool started(void) {
    enum hil_state state = HIL_MORE;
    for (hil_start(&board); state == HIL_MORE;) state = hil_load();
    return state == HIL_DONE;
}

static bool __attribute__((noinline)) answers(uint32_t image, int32_t *logits) {
    enum hil_state state = HIL_MORE;
    stack_end = __builtin_frame_address(0);
    call = 0;
    memcpy(hil_room(), images[image], IMAGE_BYTES);
    hil_begin(hil_room(), network_sample + image);
    while (state == HIL_MORE) state = hil_step();
    for (uint32_t i = 0; i < PLAN_LOGITS; i++) logits[i] = hil_logit(i);
    return state == HIL_DONE;
}

static uint32_t class_of(const int32_t *logits) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < PLAN_LOGITS; i++) best = logits[i] > logits[best] ? i : best;
    return best;
}

static int compared(uint32_t image) {
    int32_t found[PLAN_LOGITS];
    if (!answers(image, found)) return REFUSED;
    if (!memcmp(found, right[image], sizeof found)) return RIGHT;
    return class_of(found) == class_of(right[image]) ? LOGITS : CLASS;
}

static bool golden(void) {
    enum hil_state state = HIL_MORE;
    while (state == HIL_MORE) state = hil_golden(GOLDEN_SAMPLE + (flip.place == 'n' ? 100 * flip.offset : 0));
    return state == HIL_DONE;
}

/* One image during which a bit is flipped; then, of the store, a restart and a scrub, and golden vectors over a wrong class. */
static int judged(void) {
    static uint32_t before[SLOT_WORDS];
    memcpy(before, memory, sizeof before);
    strike_at = flip.place == 's' || flip.place == 'r' ? (int64_t)flip.moment * calls[flip.image] >> 16 : NEVER;
    if (flip.place == 'a') strike(NULL);
    int outcome = compared(flip.image);
    strike_at = NEVER;
    if (flip.place == 's' && outcome == RIGHT) {
        outcome = started() ? compared(flip.image) : REFUSED;
        while (!hil_scrub()) {}
        if (outcome == RIGHT && memcmp(before, memory, sizeof before)) outcome = LEFT;
    }
    if (flip.place == 'n' && (!golden() || hil_counts.mended || hil_counts.lost || hil_counts.registers)) return ALARM;
    return outcome == CLASS && !golden() ? CLASS_GOLDEN : outcome;
}

static int flips(void) {
    unsigned long long offset;
    while (scanf(" %c %llu %u %u %u", &flip.place, &offset, &flip.bit, &flip.image, &flip.moment) == 5) {
        int status;
        flip.offset = offset;
        fflush(stdout);
        const pid_t child = fork();
        if (child < 0) return 2;
        if (!child) {
            const struct itimerval limit = {{0, 0}, {CPU_S, 0}}; /* the watchdog */
            setitimer(ITIMER_PROF, &limit, NULL);
            _exit(judged());
        }
        if (waitpid(child, &status, 0) != child) return 2;
        putchar(WIFEXITED(status) ? WEXITSTATUS(status) : CRASH);
    }
    putchar('\n');
    return 0;
}

int main(int count, char **words) {
    FILE *writes = fopen("writes.bin", "rb"), *file = fopen("images.bin", "rb");
    memcpy(memory, network_words, 4 * network_size);
    memcpy(memory + 2 * SLOT_WORDS, network_words, 4 * network_size);
    if (count < 2 || !writes || !file || fread(images, IMAGE_BYTES, IMAGES, file) != IMAGES) return 2;
    if (!started() || !die_begin(writes)) return 2;
    learning = true;
    madvise(known, sizeof known, MADV_HUGEPAGE); /* or each fork copies its table of pages */
    if (!golden()) return 2;
    for (uint32_t i = 0; i < IMAGES; i++) {
        if (!answers(i, right[i])) return 2;
        calls[i] = call;
    }
    learning = false;
    return flips();
}
