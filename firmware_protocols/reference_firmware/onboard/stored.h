/* The stored network, word by word: two slots for updates and a golden image, under a code that turns one struck bit of
 * 64 back. Eight words and the check bytes of their four pairs make a group; byte i of a pair is bits 8 (i mod 4) onwards
 * of its word i / 4, whatever the machine's own order. */
#ifndef STORED_H
#define STORED_H

#include "hil_payload.h"

/* Words at the head of a slot, its first group. The check sum is over all words but itself. */
enum { STORED_BEGINS, STORED_NUMBER, STORED_MESSAGES, STORED_END, STORED_SUM, STORED_GOLDEN, STORED_LIMIT, STORED_HEAD = 8 };

/* Opens the newest slot that is whole, else the golden image, a group a call. HIL_REFUSED: not even that is whole. */
void stored_begin(const struct hil_board *board);
enum hil_state stored_find(void);

bool stored_word(uint32_t at, uint32_t *word); /* of the open slot; false: not readable, or two bits of 64 were struck */

#endif
