#include "memory.h"

#include "../core/frame.h"

#pragma GCC optimize("Os") /* small before fast */

#if MEMORY_BYTES

static uint32_t place(const struct slot_ring *ring, uint32_t slot) { return ring->at + slot * ring->size; }

static uint32_t check(uint32_t number, uint32_t size, const void *head, uint32_t head_size, const void *data) {
    uint8_t first[8];
    put_u32(first, number);
    put_u32(first + 4, size);
    return crc32c(crc32c(crc32c(0, first, 8), head, head_size), data, size - head_size);
}

/* Number of the record in a slot; 0: none, or one that was not finished. */
static uint32_t number_in(const struct slot_ring *ring, uint32_t slot) {
    struct wire_slot head;
    const uint8_t *at = memory_at(place(ring, slot));
    wire_get_slot(at, &head);
    if (head.size > ring->size - WIRE_SLOT_SIZE) return 0;
    return head.check == check(head.sequence, head.size, at, 0, at + WIRE_SLOT_SIZE) ? head.sequence : 0;
}

void slots_open(struct slot_ring *ring, uint32_t at, uint8_t count, uint32_t size) {
    uint32_t numbers[JOURNAL_SLOTS];
    *ring = (struct slot_ring){.at = at, .size = size, .count = count};
    for (uint8_t slot = 0; slot < count; slot++) {
        const uint32_t number = number_in(ring, slot);
        if (!number) continue;
        uint32_t i = ring->held++;
        for (; i && numbers[i - 1] > number; i--) {
            numbers[i] = numbers[i - 1];
            ring->order[i] = ring->order[i - 1];
        }
        numbers[i] = number;
        ring->order[i] = slot;
        if (number > ring->last) ring->last = number;
    }
}

const uint8_t *slots_record(const struct slot_ring *ring, uint32_t index, uint32_t *size) {
    const uint8_t *at = memory_at(place(ring, ring->order[index]));
    struct wire_slot head;
    wire_get_slot(at, &head);
    *size = head.size;
    return at + WIRE_SLOT_SIZE;
}

static uint8_t free_slot(const struct slot_ring *ring) {
    uint8_t slot = 0;
    for (uint32_t i = 0; i < ring->held; i++) {
        if (ring->order[i] != slot) continue;
        slot++;
        i = UINT32_MAX; /* look through all of them for the next one */
    }
    return slot;
}

bool slots_add(struct slot_ring *ring, const void *head, uint32_t head_size, const void *data, uint32_t size) {
    if (size > ring->size - WIRE_SLOT_SIZE - head_size) return false;
    uint8_t slot = free_slot(ring), first[WIRE_SLOT_SIZE];
    if (slot == ring->count) {
        slot = ring->order[0];
        memmove(ring->order, ring->order + 1, --ring->held);
    }
    const struct wire_slot fields = {++ring->last, head_size + size, check(ring->last, head_size + size, head, head_size, data)};
    const uint32_t at = place(ring, slot);
    wire_put_slot(first, &fields);
    memory_write(at, first, WIRE_SLOT_SIZE);
    memory_write(at + WIRE_SLOT_SIZE, head, head_size);
    memory_write(at + WIRE_SLOT_SIZE + head_size, data, size);
    ring->order[ring->held++] = slot;
    return true;
}

#endif
