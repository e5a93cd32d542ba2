/* The last answers to requests that changed something, kept without power, so that nothing is done twice. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include "../core/handlers.h"

/* Opens the journal; gives the chip time of its last entry, 0 when there is none. */
uint64_t journal_start(void);

/* Whether the answer to an operation is kept. */
bool journal_keeps(uint8_t op);

void journal_add(uint32_t nonce, uint16_t id, uint8_t op, const struct reply *reply);

/* Answers to the host of this nonce become the replies that the server remembers. */
void journal_recall(uint32_t nonce);

void journal_state(const struct job *job);

#endif
