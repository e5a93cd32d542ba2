/* What a board keeps without power, as the firmware uses it: bytes, and records that are written whole or not at all. */
#ifndef MEMORY_H
#define MEMORY_H

#include "../core/limits.h"

/* --- of the board ------------------------------------------------------------------------------------------ */

/* MEMORY_BYTES bytes, mapped. A board without such a memory is built with MEMORY_BYTES 0 and needs neither. */
const uint8_t *memory_at(uint32_t at);

/* Writes any bytes; a flash is erased by this where it must be. A loss of power on the way may damage the pages of
 * MEMORY_PAGE bytes that it touches, and no other. */
void memory_write(uint32_t at, const void *data, uint32_t size);

/* The key of KEY_BYTES bytes that hosts must prove; NULL: everybody may do everything. */
const uint8_t *board_key(void);

/* Asked at each start of a board with a key: a number that it never gave before, and not from this memory, so that one
 * which was erased makes no recorded session valid again. Random, or a counter that lies beside the key. */
uint64_t board_epoch(void);

/* --- records ------------------------------------------------------------------------------------------------ */

#define PAGED(size) (((size) + MEMORY_PAGE - 1) / MEMORY_PAGE * MEMORY_PAGE)

/* The last records of one kind. A new one takes the slot of the oldest; the one before it is always whole. */
struct slot_ring {
    uint32_t at, size, last; /* last: number of the newest */
    uint8_t count, held;
    uint8_t order[JOURNAL_SLOTS]; /* slots that hold a record, oldest first */
};

void slots_open(struct slot_ring *ring, uint32_t at, uint8_t count, uint32_t size);

/* Record `index` (0 is the oldest of `held`) and its size. */
const uint8_t *slots_record(const struct slot_ring *ring, uint32_t index, uint32_t *size);

/* Keeps `size` bytes after `head_size` of a head; false when they do not fit a slot. */
bool slots_add(struct slot_ring *ring, const void *head, uint32_t head_size, const void *data, uint32_t size);

/* --- where things lie ----------------------------------------------------------------------------------------- */

#define AUTHORITY_SLOT PAGED(WIRE_SLOT_SIZE + WIRE_AUTHORITY_RECORD_SIZE)
#define JOURNAL_AT (2u * AUTHORITY_SLOT)
#define JOURNAL_SLOT PAGED(JOURNAL_REPLY + WIRE_SLOT_SIZE + WIRE_JOURNAL_ENTRY_SIZE)
#define IMAGE_AT (JOURNAL_AT + JOURNAL_SLOTS * JOURNAL_SLOT)

#endif
