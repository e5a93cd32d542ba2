/* The chip's end of a link: bytes and a clock in, bytes and parts of messages out. Never reads or waits. */
#ifndef LINK_H
#define LINK_H

#include "send.h"

/* One numbered frame that came before its turn. */
struct early_frame {
    uint16_t sequence, length;
    uint8_t flags, channel;
    bool held;
    uint8_t payload[LINK_PAYLOAD];
};

/* Who is behind the link. */
struct link_owner {
    /* A hello to answer: fills the reply (except version, payload and window) and the chip time. */
    void (*greet)(const struct wire_hello *hello, struct wire_hello_reply *reply, uint64_t *chip_time_ns);
    /* The next payload of a message on a channel, in order; `last` ends the message. */
    void (*part)(uint8_t channel, const uint8_t *data, uint16_t size, bool last);
    /* The host went silent: the link is closed and waits for a hello. */
    void (*lost)(void);
};

struct link {
    const struct link_owner *owner;
    struct link_counters counters;
    struct frame_reader reader;
    struct send_window send;
    struct early_frame early[LINK_WINDOW]; /* of frame n at n mod LINK_WINDOW */
    uint64_t heard_us, hint_us;
    struct wire_hello hello; /* the host's, of the session that is open */
    struct { uint16_t session; uint32_t nonce; } retired[RETIRED_SESSIONS];
    uint32_t retirements;
    uint16_t session, expected; /* the next frame to be taken */
    uint16_t hint_session, reject_session;
    uint8_t reply[WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_HELLO_REPLY_SIZE];
    bool up, greeted, ack_due, reply_due, hint_due, reject_due, hinted;
};

void link_start(struct link *link, const struct link_owner *owner);
void link_close(struct link *link);

/* One byte from the line, any byte. */
void link_receive(struct link *link, uint8_t byte, uint64_t now_us);

/* The next frame for the line, up to FRAME_ENCODED bytes; 0 when there is nothing to say now. */
uint32_t link_transmit(struct link *link, uint64_t now_us, uint8_t *out);

/* Queues a message while the link is up; false when there is no place (the host will ask again). */
bool link_send(struct link *link, uint8_t channel, const uint8_t *data, uint32_t size);

/* When to call link_transmit again if nothing arrives before; UINT64_MAX: no need. */
uint64_t link_deadline(const struct link *link, uint64_t now_us);

#endif
