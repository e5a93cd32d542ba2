/* Slots, their code, scrubbing and updates. */
#include "stored.h"

#pragma GCC optimize("Os") /* small before fast */

enum { BEGINS = 0x4B50494C, DATA = STORED_HEAD, GOLDEN_SLOT = 2, NO_GROUP = 0x7FFFFFFF };

struct hil_counts hil_counts;
static const struct hil_board *board;
static uint32_t slot, held, group[HIL_GROUP]; /* the open slot; its group that was read last */
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

static bool whole(uint32_t number, uint32_t *update) {
    uint32_t begins, end, expected, word, sum = 0xFFFFFFFF;
    slot = number;
    held = NO_GROUP;
    if (!stored_word(STORED_BEGINS, &begins) || begins != BEGINS) return false;
    stored_word(STORED_END, &end);
    stored_word(STORED_SUM, &expected);
    stored_word(STORED_NUMBER, update);
    if (end < STORED_HEAD || end > SLOT_WORDS / HIL_GROUP * DATA) return false;
    for (uint32_t at = 0; at < end; at++) {
        if (!stored_word(at, &word)) return false;
        sum ^= at == STORED_SUM ? 0 : word;
        for (uint32_t bit = 0; bit < 32; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    return ~sum == expected;
}

bool stored_open(const struct hil_board *given) {
    uint32_t found[2] = {0, 0};
    bool there[2];
    board = given;
    scrubbed = 0;
    for (uint32_t i = 0; i < 2; i++) there[i] = whole(i, found + i);
    if (!there[0] && !there[1]) return whole(GOLDEN_SLOT, found);
    slot = there[1] && (!there[0] || found[1] > found[0]) ? 1 : 0;
    held = NO_GROUP;
    return true;
}

bool hil_scrub(void) {
    uint32_t end = 0;
    read_group(scrubbed);
    if (!stored_word(STORED_END, &end) || ++scrubbed * DATA >= end) scrubbed = 0;
    return !scrubbed;
}

static bool copied_to(uint32_t number) {
    if (number >= SLOT_WORDS / HIL_GROUP) return false;
    held = NO_GROUP;
    for (; next < number; next++) {
        if (!board->store(slot * SLOT_WORDS + HIL_GROUP * next, HIL_GROUP, group, false)) return false;
        if (!board->store(writing * SLOT_WORDS + HIL_GROUP * next, HIL_GROUP, group, true)) return false;
    }
    return true;
}

bool hil_update_begin(const uint32_t *first) {
    uint32_t nothing[HIL_GROUP] = {0};
    memcpy(head, first, sizeof head);
    writing = slot ? 0 : 1;
    next = 1;
    return board->store(writing * SLOT_WORDS, HIL_GROUP, nothing, true);
}

bool hil_update_part(uint32_t number, uint32_t *words) {
    if (number < next || !copied_to(number)) return false;
    return board->store(writing * SLOT_WORDS + HIL_GROUP * next++, HIL_GROUP, words, true);
}

bool hil_update_end(void) {
    const uint32_t groups = (head[STORED_END] + DATA - 1) / DATA;
    return groups && copied_to(groups) && board->store(writing * SLOT_WORDS, HIL_GROUP, head, true);
}
