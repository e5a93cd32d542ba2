/* Who may change the chip: a key proved by challenge, and seals on the messages that change something. */
#ifndef AUTHORITY_H
#define AUTHORITY_H

#include "../core/handlers.h"

void authority_start(void);
bool authority_wanted(void); /* the board has a key */
void authority_drop(void);   /* back to what everybody may do */

/* CHALLENGE, AUTHORISE, DROP_AUTHORITY. */
enum work authority_work(struct job *job, uint32_t host, uint64_t now_us);

/* Whether a request may be asked: `refusal` says why not. `counter` is that of its seal, 0 where none is needed. */
bool authority_allows(const struct request *request, const uint8_t *data, uint32_t size, uint64_t *counter,
                      struct refusal *refusal);

/* Uses the counter of a seal up, when its request begins. */
enum work authority_take(struct job *job, uint64_t counter);

#endif
