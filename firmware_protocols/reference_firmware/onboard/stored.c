/* Slots, their code, scrubbing and updates. */
#include "stored.h"

#pragma GCC optimize("Os") /* small before fast */

enum { BEGINS = 0x4B50494C, DATA = STORED_HEAD, GOLDEN_SLOT = 2, NO_SLOT = 3, NO_GROUP = 0x7FFFFFFF };

struct hil_counts hil_counts;
static const struct hil_board *board;
static uint32_t slot, held, group[HIL_GROUP]; /* the open slot; its group that was read last */
static uint32_t found, newest;                /* the newest whole slot so far, and the number of its update */
static uint32_t looked, end, sum, expected, update; /* of the slot that is looked at: words, and what its head says */
static uint32_t scrubbed, writing, next;      /* next group of a scrub; slot of an update, its next group */
static uint32_t head[HIL_GROUP];              /* of the update, written when all else is there */

#if HIL_ECC
/* Check bits that each of 64 data bits turns over (Hsiao, doi 10.1147/rd.144.0395), the highest bit of a byte first. */
static const uint8_t COLUMNS[64] = {
    7, 11, 19, 35, 67, 131, 13, 21, 37, 69, 133, 25, 41, 73, 137, 49, 81, 145, 97, 161, 193, 14, 22, 38, 70, 134, 26, 42, 74, 138,
    50, 82, 146, 98, 162, 194, 28, 44, 76, 140, 52, 84, 148, 100, 164, 196, 56, 88, 152, 104, 168, 200, 112, 176, 208, 224,
    31, 47, 79, 143, 55, 87, 151, 103,
};

static uint32_t shift_of(uint32_t bit) { return 8 * (bit / 8 % 4) + 7 - bit % 8; }

static uint8_t syndrome_of(const uint32_t *pair, uint32_t check) {
    for (uint32_t i = 0; i < 64; i++) check ^= pair[i / 32] >> shift_of(i) & 1 ? COLUMNS[i] : 0u;
    return (uint8_t)check;
}

/* Turns the struck bit of a pair back; false: there were two. */
static bool mend(uint32_t *pair, uint32_t *checks, uint32_t first, uint8_t syndrome) {
    for (uint32_t i = 0; i < 64; i++) {
        if (COLUMNS[i] == syndrome) pair[i / 32] ^= 1u << shift_of(i);
        if (COLUMNS[i] == syndrome) return true;
    }
    *checks ^= (uint32_t)syndrome << first; /* a single check bit */
    return !(syndrome & (syndrome - 1));
}
#endif

/* A group as it was stored; what was struck is turned back and written back. */
static bool read_group(uint32_t number) {
    bool whole = true, struck = false;
    held = NO_GROUP;
    if (!board->store(slot * SLOT_WORDS + HIL_GROUP * number, HIL_GROUP, group, false)) return false;
#if HIL_ECC
    for (uint32_t pair = 0; pair < 4; pair++) {
        const uint8_t syndrome = syndrome_of(group + 2 * pair, group[DATA] >> 8 * pair & 0xFF);
        if (!syndrome) continue;
        if (mend(group + 2 * pair, group + DATA, 8 * pair, syndrome)) struck = true, hil_counts.mended++;
        else whole = false, hil_counts.lost++;
    }
#endif
    if (struck && whole) board->store(slot * SLOT_WORDS + HIL_GROUP * number, HIL_GROUP, group, true);
    if (whole) held = number;
    return whole;
}

bool stored_word(uint32_t at, uint32_t *word) {
    if (at / DATA != held && !read_group(at / DATA)) return false;
    *word = group[at % DATA];
    return true;
}

/* Looks at a group of the open slot. HIL_DONE: the slot is whole; HIL_REFUSED: it is not. */
static enum hil_state look(void) {
    uint32_t word;
    if (!looked) {
        sum = 0xFFFFFFFF;
        if (!stored_word(STORED_BEGINS, &word) || word != BEGINS) return HIL_REFUSED;
        stored_word(STORED_END, &end);
        stored_word(STORED_SUM, &expected);
        stored_word(STORED_NUMBER, &update);
        if (end < STORED_HEAD || end > SLOT_WORDS / HIL_GROUP * DATA) return HIL_REFUSED;
    }
    for (uint32_t stop = looked + DATA; looked < stop && looked < end; looked++) {
        if (!stored_word(looked, &word)) return HIL_REFUSED;
        sum ^= looked == STORED_SUM ? 0 : word;
        for (uint32_t bit = 0; bit < 32; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    if (looked < end) return HIL_MORE;
    return ~sum == expected ? HIL_DONE : HIL_REFUSED;
}

static void open_slot(uint32_t number) {
    slot = number;
    held = NO_GROUP;
    looked = 0;
}

void stored_begin(const struct hil_board *given) {
    board = given;
    scrubbed = 0;
    found = NO_SLOT;
    open_slot(0);
}

enum hil_state stored_find(void) {
    const enum hil_state state = look();
    if (state == HIL_MORE) return HIL_MORE;
    if (state == HIL_DONE && (found == NO_SLOT || update > newest)) {
        found = slot;
        newest = update;
    }
    open_slot(slot + 1);
    if (slot < GOLDEN_SLOT || (slot == GOLDEN_SLOT && found == NO_SLOT)) return HIL_MORE;
    open_slot(found);
    hil_counts.update = newest;
    return found == NO_SLOT ? HIL_REFUSED : HIL_DONE;
}

bool hil_scrub(void) {
    uint32_t words = 0;
    read_group(scrubbed);
    if (!stored_word(STORED_END, &words) || ++scrubbed * DATA >= words) scrubbed = 0;
    return !scrubbed;
}

/* Copies the next group before a number. HIL_DONE: there is none. */
static enum hil_state copied_to(uint32_t number) {
    if (number >= SLOT_WORDS / HIL_GROUP) return HIL_REFUSED;
    if (next >= number) return HIL_DONE;
    held = NO_GROUP;
    if (!board->store(slot * SLOT_WORDS + HIL_GROUP * next, HIL_GROUP, group, false)) return HIL_REFUSED;
    return board->store(writing * SLOT_WORDS + HIL_GROUP * next++, HIL_GROUP, group, true) ? HIL_MORE : HIL_REFUSED;
}

bool hil_update_begin(const uint32_t *first) {
    uint32_t nothing[HIL_GROUP] = {0};
    memcpy(head, first, sizeof head);
    writing = slot ? 0 : 1;
    next = 1;
    return board->store(writing * SLOT_WORDS, HIL_GROUP, nothing, true);
}

enum hil_state hil_update_part(uint32_t number, uint32_t *words) {
    const enum hil_state state = number < next ? HIL_REFUSED : copied_to(number);
    if (state != HIL_DONE) return state;
    return board->store(writing * SLOT_WORDS + HIL_GROUP * next++, HIL_GROUP, words, true) ? HIL_DONE : HIL_REFUSED;
}

enum hil_state hil_update_end(void) {
    const uint32_t groups = (head[STORED_END] + DATA - 1) / DATA;
    const enum hil_state state = groups ? copied_to(groups) : HIL_REFUSED;
    if (state != HIL_DONE) return state;
    return board->store(writing * SLOT_WORDS, HIL_GROUP, head, true) ? HIL_DONE : HIL_REFUSED;
}
