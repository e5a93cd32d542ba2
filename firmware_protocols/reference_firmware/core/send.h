/* Sending half of the link: cuts messages into frames, keeps a window in flight, repeats the lost ones. */
#ifndef SEND_H
#define SEND_H

#include "frame.h"

#define OUTBOX_PLACES (CACHED_REPLIES + 4u)

/* RFC 6298's filter, in microseconds. */
struct round_trip {
    uint32_t samples, srtt_us, rttvar_us, min_us, rto_us;
};

/* One numbered frame on its way. Times wrap after 71 minutes; nothing is on its way so long. */
struct flight {
    uint32_t first_us, sent_us;
    uint32_t order; /* counts transmissions of the whole window */
    uint16_t length;
    uint16_t heard; /* frames of the other side that had come before it */
    uint8_t flags, channel, tries;
    uint8_t later; /* frames transmitted after this one that were acknowledged */
    bool flying, lost;
    uint8_t payload[LINK_PAYLOAD];
};

struct outgoing {
    const uint8_t *data; /* the owner's, until it is cut or dropped */
    uint32_t size, cut;
};

struct outbox {
    struct outgoing places[OUTBOX_PLACES];
    uint32_t first, count;
};

struct send_window {
    struct flight flights[LINK_WINDOW]; /* of frame n at n mod LINK_WINDOW */
    struct outbox outbox[CHANNELS];
    struct round_trip trips[2]; /* of payloads up to PAYLOAD_MIN bytes, and above */
    uint32_t progress_us;       /* last time something was acknowledged or might have been, or the window was empty */
    uint32_t order;
    uint16_t base, next; /* oldest not acknowledged, and the next to be used */
    uint16_t window, max_payload;
    uint16_t heard; /* new frames of the other side */
    uint8_t backoff;
    bool out_of_tries;
};

void send_start(struct send_window *w, uint16_t window, uint16_t max_payload);

/* Queues a message; false when the channel's places are all taken. The bytes must stay until they are cut. */
bool send_queue(struct send_window *w, uint8_t channel, const uint8_t *data, uint32_t size);

/* Takes messages that lie at `data` out of the queue; false when one of them is half sent. */
bool send_drop(struct send_window *w, const uint8_t *data);

bool send_idle(const struct send_window *w);      /* everything queued has been acknowledged */
bool send_backed_up(const struct send_window *w); /* something queued has not been cut into frames */
bool send_ready(const struct send_window *w);     /* a frame can go without waiting */

/* The next frame to transmit now: an expired or lost one, else a new one; NULL when there is none. */
const struct flight *send_take(struct send_window *w, uint32_t now_us, uint16_t *sequence, struct link_counters *c);

/* The acknowledgement fields of a frame: all before `ack` and those of the bitmap have arrived. */
void send_acknowledge(struct send_window *w, uint16_t ack, uint32_t selective, uint32_t now_us, struct link_counters *c);

/* A new frame of the other side has come: an acknowledgement may wait behind those sent before it. */
void send_heard(struct send_window *w, uint16_t length, uint32_t now_us);

/* In what time the timer expires; false: it does not run. */
bool send_deadline(const struct send_window *w, uint32_t now_us, uint32_t *in_us);

#endif
