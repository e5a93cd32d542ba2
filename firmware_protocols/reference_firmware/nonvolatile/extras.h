/* What version 1.1 adds to the chip role: journal, images and authority, over the memory of a board. */
#ifndef EXTRAS_H
#define EXTRAS_H

#include "../core/handlers.h"

#if MEMORY_BYTES

uint64_t extras_start(void);        /* gives the chip time of the journal's last entry */
void extras_greet(uint32_t nonce);  /* another host, or the first one since the start */
uint32_t extras_capabilities(void); /* CAN_… */
uint32_t extras_needs(uint8_t op);  /* CAN_… that an operation of version 1.1 takes, 0 for others */
enum work extras_work(struct job *job, uint32_t host, uint64_t now_us);
enum work extras_tile(struct job *job, struct request *to);
bool extras_allow(const struct request *request, const uint8_t *data, uint32_t size, uint64_t *counter, struct refusal *why);
enum work extras_take(struct job *job, uint64_t counter);
void extras_done(uint32_t host, uint16_t id, uint8_t op, const struct reply *reply);

#else

static inline uint64_t extras_start(void) { return 0; }
static inline void extras_greet(uint32_t nonce) { (void)nonce; }
static inline uint32_t extras_capabilities(void) { return 0; }
uint32_t extras_needs(uint8_t op);
static inline enum work extras_work(struct job *job, uint32_t host, uint64_t now_us) {
    (void)job, (void)host, (void)now_us;
    return WORK_DONE;
}
static inline enum work extras_tile(struct job *job, struct request *to) {
    (void)job, (void)to;
    return WORK_DONE;
}
static inline bool extras_allow(const struct request *request, const uint8_t *data, uint32_t size, uint64_t *counter,
                                struct refusal *why) {
    (void)request, (void)data, (void)size, (void)counter, (void)why;
    return true;
}
static inline enum work extras_take(struct job *job, uint64_t counter) {
    (void)job, (void)counter;
    return WORK_DONE;
}
static inline void extras_done(uint32_t host, uint16_t id, uint8_t op, const struct reply *reply) {
    (void)host, (void)id, (void)op, (void)reply;
}

#endif

#endif
