/* The last 16 replies by request id, so that a request that comes again is answered, not repeated. */
#ifndef REPLIES_H
#define REPLIES_H

#include "messages.h"
#include "send.h"

/* Integers are written with more bytes each than they keep when packed, so there is more room than a message has. */
#define REPLY_ROOM (2 * MAX_MESSAGE)

void replies_start(void);

/* Where the running request writes its reply, and where a refusal beside it is written. */
struct reply replies_building(void);
struct reply replies_spare(void);

/* Keeps a reply in place of the oldest; gives where it lies now, NULL when the oldest cannot leave yet. */
uint8_t *replies_keep(struct send_window *send, uint16_t id, const struct reply *reply);

/* Keeps the bytes of an earlier reply in place of the oldest. */
void replies_restore(uint16_t id, const uint8_t *data, uint32_t size);

/* The reply to a request id; `data` is NULL when none is kept. */
struct reply replies_find(uint16_t id);

#endif
