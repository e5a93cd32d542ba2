#include "link.h"

#pragma GCC optimize("Os") /* small before fast */

void link_start(struct link *link, const struct link_owner *owner) {
    memset(link, 0, sizeof *link);
    link->owner = owner;
    send_start(&link->send, 1, PAYLOAD_MIN);
}

static void retire(struct link *link) {
    link->retired[link->retirements % RETIRED_SESSIONS].session = link->session;
    link->retired[link->retirements % RETIRED_SESSIONS].nonce = link->hello.nonce;
    link->retirements++;
}

void link_close(struct link *link) {
    if (link->greeted) retire(link);
    link->up = link->greeted = false;
    link->reply_due = link->hint_due = link->reject_due = false;
}

bool link_send(struct link *link, uint8_t channel, const uint8_t *data, uint32_t size) {
    if (!link->up || !send_queue(&link->send, channel, data, size)) return false;
    link->counters.messages_sent++;
    return true;
}

/* --- hello -------------------------------------------------------------------------------- */

static bool is_retired(const struct link *link, uint16_t session, uint32_t nonce) {
    for (uint32_t i = 0; i < RETIRED_SESSIONS && i < link->retirements; i++) {
        if (link->retired[i].session == session && link->retired[i].nonce == nonce) return true;
    }
    return false;
}

static bool same_hello(const struct wire_hello *a, const struct wire_hello *b) {
    return a->version_min == b->version_min && a->version_max == b->version_max && a->nonce == b->nonce &&
           a->max_payload == b->max_payload && a->window == b->window;
}

static void answer_hello(struct link *link, const struct wire_hello *hello, uint16_t version) {
    struct wire_hello_reply reply;
    struct wire_chip_time time;
    link->owner->greet(hello, &reply, &time.chip_time_ns);
    reply.version = version;
    reply.max_payload = hello->max_payload < LINK_PAYLOAD ? hello->max_payload : LINK_PAYLOAD;
    reply.window = hello->window < LINK_WINDOW ? hello->window : LINK_WINDOW;
    const struct wire_message head = {OP_HELLO_REPLY, 0, 0};
    wire_put_message(link->reply, &head);
    wire_put_chip_time(link->reply + WIRE_MESSAGE_SIZE, &time);
    wire_put_hello_reply(link->reply + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE, &reply);
    send_start(&link->send, reply.window, reply.max_payload);
    for (uint32_t i = 0; i < LINK_WINDOW; i++) link->early[i].held = false;
    link->expected = 0;
    link->ack_due = false;
    link->up = link->greeted = link->reply_due = true;
    link->hint_due = link->reject_due = false;
}

static void take_hello(struct link *link, const struct wire_hello *hello, uint16_t session, uint64_t now_us) {
    if (!session || hello->max_payload < PAYLOAD_MIN || hello->window < 1) return;
    if (link->up && session == link->session && same_hello(hello, &link->hello)) {
        link->reply_due = true; /* our answer was lost */
        return;
    }
    if (is_retired(link, session, hello->nonce)) return; /* a late copy */
    const uint16_t version = hello->version_max < PROTOCOL_VERSION ? hello->version_max : PROTOCOL_VERSION;
    const uint16_t least = hello->version_min > PROTOCOL_LEAST ? hello->version_min : PROTOCOL_LEAST;
    if (version >> 8 < least >> 8) {
        link->reject_session = session;
        link->reject_due = true;
        return;
    }
    if (link->up) retire(link);
    link->session = session;
    link->hello = *hello;
    link->heard_us = now_us;
    link->counters.hellos++;
    answer_hello(link, hello, version);
}

static void take_reset(struct link *link, const struct frame *frame, uint64_t now_us) {
    if (frame->flags & FLAG_ACK) return;
    struct wire_message head;
    struct wire_hello hello;
    if (frame->length < WIRE_MESSAGE_SIZE + WIRE_HELLO_SIZE) {
        link->counters.bad_length++;
        return;
    }
    wire_get_message(frame->payload, &head);
    if (head.op != OP_HELLO) return;
    wire_get_hello(frame->payload + WIRE_MESSAGE_SIZE, &hello);
    take_hello(link, &hello, frame->session, now_us);
}

/* --- numbered frames ------------------------------------------------------------------------ */

static void join(struct link *link, uint8_t channel, const uint8_t *payload, uint16_t length, uint8_t flags) {
    link->expected++;
    if (channel >= CHANNELS) return; /* of a later version: acknowledged, not understood */
    if (flags & FLAG_LAST) link->counters.messages_received++;
    if (length || flags & FLAG_LAST) link->owner->part(channel, payload, length, flags & FLAG_LAST);
}

static void take_numbered(struct link *link, const struct frame *frame, uint64_t now_us) {
    const uint16_t ahead = (uint16_t)(frame->sequence - link->expected);
    struct early_frame *place = &link->early[frame->sequence % LINK_WINDOW];
    link->ack_due = true;
    if (ahead >= 0x8000 || (place->held && place->sequence == frame->sequence)) {
        link->counters.duplicates++;
        return;
    }
    if (ahead >= LINK_WINDOW) {
        link->counters.out_of_window++;
        return;
    }
    send_heard(&link->send, frame->length, (uint32_t)now_us);
    if (ahead) {
        place->sequence = frame->sequence;
        place->length = frame->length;
        place->flags = frame->flags;
        place->channel = frame->channel;
        place->held = true;
        memcpy(place->payload, frame->payload, frame->length);
    } else {
        const uint16_t session = link->session;
        join(link, frame->channel, frame->payload, frame->length, frame->flags);
        while (link->up && link->session == session) {
            struct early_frame *next = &link->early[link->expected % LINK_WINDOW];
            if (!next->held || next->sequence != link->expected) break;
            next->held = false;
            join(link, next->channel, next->payload, next->length, next->flags);
        }
    }
}

static uint32_t selective(const struct link *link) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < LINK_WINDOW; i++) {
        const struct early_frame *early = &link->early[i];
        if (early->held) bits |= (uint32_t)1 << (uint16_t)(early->sequence - link->expected - 1);
    }
    return bits;
}

void link_receive(struct link *link, uint8_t byte, uint64_t now_us) {
    struct frame frame;
    if (!frame_feed(&link->reader, byte, &link->counters, &frame)) return;
    if (frame.flags & FLAG_RESET) {
        take_reset(link, &frame, now_us);
    } else if (!link->up || frame.session != link->session) {
        link->counters.wrong_session++;
        if (frame.session && (!link->hinted || now_us >= link->hint_us + HINT_EVERY_US)) {
            link->hint_us = now_us;
            link->hint_session = frame.session;
            link->hint_due = link->hinted = true;
        }
    } else {
        link->heard_us = now_us;
        send_acknowledge(&link->send, frame.ack, frame.selective, (uint32_t)now_us, &link->counters);
        if (!(frame.flags & FLAG_ACK)) take_numbered(link, &frame, now_us);
    }
}

/* --- the line's turn ------------------------------------------------------------------------- */

static uint32_t reset_frame(uint8_t *out, uint8_t flags, uint16_t session, const uint8_t *payload, uint16_t length) {
    const struct frame frame = {.flags = flags, .session = session, .payload = payload, .length = length};
    return frame_encode(&frame, out);
}

static uint32_t urgent(struct link *link, uint8_t *out) {
    if (link->reply_due) {
        link->reply_due = false;
        return reset_frame(out, FLAG_RESET | FLAG_LAST, link->session, link->reply, sizeof link->reply);
    }
    if (link->reject_due) {
        uint8_t body[WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE + WIRE_HELLO_REJECT_SIZE] = {0};
        const struct wire_message head = {OP_HELLO_REJECT, 0, 0};
        const struct wire_hello_reject ours = {PROTOCOL_LEAST, PROTOCOL_VERSION};
        link->reject_due = false;
        wire_put_message(body, &head);
        wire_put_hello_reject(body + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE, &ours);
        return reset_frame(out, FLAG_RESET | FLAG_LAST, link->reject_session, body, sizeof body);
    }
    if (link->hint_due) {
        link->hint_due = false;
        return reset_frame(out, FLAG_RESET | FLAG_ACK, link->hint_session, link->reply, 0);
    }
    return 0;
}

static bool silent_at(const struct link *link, uint64_t now_us, uint64_t *when_us) {
    if (link->send.base == link->send.next) return false;
    const uint64_t progress_us = now_us - ((uint32_t)now_us - link->send.progress_us);
    *when_us = (progress_us > link->heard_us ? progress_us : link->heard_us) + LINK_SILENCE_US;
    return true;
}

static void lose(struct link *link) {
    link_close(link);
    link->owner->lost();
}

uint32_t link_transmit(struct link *link, uint64_t now_us, uint8_t *out) {
    uint64_t when_us;
    if (link->up && silent_at(link, now_us, &when_us) && now_us >= when_us) lose(link);
    const uint32_t size = urgent(link, out);
    if (size || !link->up) return size;
    uint16_t sequence = 0;
    const struct flight *flight = send_take(&link->send, (uint32_t)now_us, &sequence, &link->counters);
    if (link->send.out_of_tries) {
        lose(link);
        return 0;
    }
    if (!flight && !link->ack_due) return 0;
    if (!flight) link->counters.acks_sent++;
    const struct frame frame = {
        .flags = flight ? flight->flags : FLAG_ACK,
        .channel = flight ? flight->channel : CHANNEL_CONTROL,
        .session = link->session,
        .sequence = flight ? sequence : link->send.next,
        .ack = link->expected,
        .selective = selective(link),
        .payload = flight ? flight->payload : link->reply,
        .length = flight ? flight->length : 0,
    };
    link->ack_due = false;
    return frame_encode(&frame, out);
}

uint64_t link_deadline(const struct link *link, uint64_t now_us) {
    uint64_t when_us = UINT64_MAX, other_us;
    uint32_t in_us;
    if (link->reply_due || link->reject_due || link->hint_due) return now_us;
    if (!link->up) return when_us;
    if (link->ack_due || send_ready(&link->send)) return now_us;
    if (send_deadline(&link->send, (uint32_t)now_us, &in_us)) when_us = now_us + in_us;
    if (silent_at(link, now_us, &other_us) && other_us < when_us) when_us = other_us;
    return when_us;
}
