/* The chip role: one request at a time, each executed at most once; the last 16 replies are kept. */
#ifndef SERVER_H
#define SERVER_H

#include "handlers.h"
#include "link.h"

/* Starts the one server of this firmware. `boot_id` must differ from the one before. */
void server_start(const struct chip_handlers *handlers, uint32_t boot_id, uint8_t reset_cause);

void server_receive(const uint8_t *data, uint32_t size, uint64_t now_us);

/* The next frame for the line (up to FRAME_ENCODED bytes), or 0: then one slice of work was done, if there was any. */
uint32_t server_transmit(uint64_t now_us, uint8_t *out);

/* When to call server_transmit again if nothing arrives before; `now_us` while work waits, UINT64_MAX: no need. */
uint64_t server_deadline(uint64_t now_us);

/* A request waits or runs. */
bool server_busy(void);

/* The line itself broke (a closed socket): outputs go off when the running request has ended. */
void server_line_lost(void);

/* What another host is told on a line of its own while one is served: a frame of up to FRAME_ENCODED bytes. */
uint32_t server_taken(uint8_t *out);

const struct link_counters *server_counters(void);

#endif
