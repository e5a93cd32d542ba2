#include "journal.h"

#include "memory.h"
#include "../core/replies.h"

#pragma GCC optimize("Os") /* small before fast */

#if MEMORY_BYTES

static struct slot_ring ring;

static const uint8_t *entry_at(uint32_t index, struct wire_journal_entry *entry, uint32_t *size) {
    const uint8_t *record = slots_record(&ring, index, size);
    wire_get_journal_entry(record, entry);
    *size -= WIRE_JOURNAL_ENTRY_SIZE;
    return record + WIRE_JOURNAL_ENTRY_SIZE;
}

uint64_t journal_start(void) {
    struct wire_journal_entry entry;
    struct wire_chip_time time;
    uint32_t size;
    slots_open(&ring, JOURNAL_AT, JOURNAL_SLOTS, JOURNAL_SLOT);
    if (!ring.held) return 0;
    wire_get_chip_time(entry_at(ring.held - 1u, &entry, &size) + WIRE_MESSAGE_SIZE, &time);
    return time.chip_time_ns;
}

bool journal_keeps(uint8_t op) {
    return op == OP_PROGRAM_TILE || op == OP_IMAGE_TILE || op == OP_PULSE || op == OP_WAIT || op == OP_HOLD_PROGRAM;
}

void journal_add(uint32_t nonce, uint16_t id, uint8_t op, const struct reply *reply) {
    const struct wire_journal_entry entry = {nonce, id, op};
    uint8_t head[WIRE_JOURNAL_ENTRY_SIZE];
    wire_put_journal_entry(head, &entry);
    slots_add(&ring, head, sizeof head, reply->data, reply->size); /* one that is too long is not kept */
}

void journal_recall(uint32_t nonce) {
    struct wire_journal_entry entry;
    uint32_t size;
    for (uint32_t i = 0; i < ring.held; i++) {
        const uint8_t *reply = entry_at(i, &entry, &size);
        if (entry.nonce == nonce) replies_restore(entry.request_id, reply, size);
    }
}

void journal_state(const struct job *job) {
    const struct wire_journal_state fixed = {JOURNAL_SLOTS - 1u, ring.held};
    struct wire_journal_entry entry;
    uint32_t size;
    reply_begin(job->reply, OP_JOURNAL_STATE, job->request->id, 0);
    uint8_t *at = reply_room(job->reply, WIRE_JOURNAL_STATE_SIZE + ring.held * WIRE_JOURNAL_ENTRY_SIZE);
    if (!at) return;
    wire_put_journal_state(at, &fixed);
    for (uint32_t i = 0; i < ring.held; i++) {
        entry_at(i, &entry, &size);
        wire_put_journal_entry(at + WIRE_JOURNAL_STATE_SIZE + i * WIRE_JOURNAL_ENTRY_SIZE, &entry);
    }
}

#endif
