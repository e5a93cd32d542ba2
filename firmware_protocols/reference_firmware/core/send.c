#include "send.h"

#pragma GCC optimize("Os") /* small before fast */

#define LONGEST_BACKOFF 8u /* 20 ms · 2^8 is above RTO_MAX_US already */

static const uint8_t PRIORITY[CHANNELS] = {CHANNEL_CONTROL, CHANNEL_EVENTS, CHANNEL_RESULTS, CHANNEL_BULK};

static struct flight *at(struct send_window *w, uint16_t sequence) { return &w->flights[sequence % LINK_WINDOW]; }

static const struct flight *oldest(const struct send_window *w) { return &w->flights[w->base % LINK_WINDOW]; }

static uint16_t in_flight(const struct send_window *w) { return (uint16_t)(w->next - w->base); }

void send_start(struct send_window *w, uint16_t window, uint16_t max_payload) {
    memset(w, 0, sizeof *w);
    w->window = window;
    w->max_payload = max_payload;
    w->trips[0].rto_us = w->trips[1].rto_us = RTO_FIRST_US;
}

/* --- queue ------------------------------------------------------------------------------ */

bool send_queue(struct send_window *w, uint8_t channel, const uint8_t *data, uint32_t size) {
    struct outbox *box = &w->outbox[channel];
    if (box->count == OUTBOX_PLACES) return false;
    box->places[(box->first + box->count++) % OUTBOX_PLACES] = (struct outgoing){data, size, 0};
    return true;
}

bool send_drop(struct send_window *w, const uint8_t *data) {
    for (uint32_t channel = 0; channel < CHANNELS; channel++) {
        struct outbox *box = &w->outbox[channel];
        const struct outgoing *head = &box->places[box->first];
        if (box->count && head->data == data && head->cut) return false;
    }
    for (uint32_t channel = 0; channel < CHANNELS; channel++) {
        struct outbox *box = &w->outbox[channel];
        uint32_t kept = 0;
        for (uint32_t i = 0; i < box->count; i++) {
            const struct outgoing one = box->places[(box->first + i) % OUTBOX_PLACES];
            if (one.data != data) box->places[(box->first + kept++) % OUTBOX_PLACES] = one;
        }
        box->count = kept;
    }
    return true;
}

bool send_backed_up(const struct send_window *w) {
    for (uint32_t channel = 0; channel < CHANNELS; channel++) {
        if (w->outbox[channel].count) return true;
    }
    return false;
}

bool send_idle(const struct send_window *w) { return w->base == w->next && !send_backed_up(w); }

bool send_ready(const struct send_window *w) {
    for (uint16_t n = w->base; n != w->next; n++) {
        if (w->flights[n % LINK_WINDOW].lost) return true;
    }
    return in_flight(w) < w->window && send_backed_up(w);
}

/* --- timer ------------------------------------------------------------------------------ */

static uint32_t kind(const struct flight *f) { return f->length > PAYLOAD_MIN; }

static void measure(struct round_trip *trip, uint32_t sample) {
    if (trip->samples++ == 0) {
        trip->srtt_us = trip->min_us = sample;
        trip->rttvar_us = sample / 2;
    } else {
        const uint32_t off = sample > trip->srtt_us ? sample - trip->srtt_us : trip->srtt_us - sample;
        trip->rttvar_us = trip->rttvar_us - trip->rttvar_us / 4 + off / 4;
        trip->srtt_us = trip->srtt_us - trip->srtt_us / 8 + sample / 8;
        if (sample < trip->min_us) trip->min_us = sample;
    }
    uint32_t rto = trip->srtt_us + 4 * trip->rttvar_us;
    if (rto < RTO_MIN_US) rto = RTO_MIN_US;
    trip->rto_us = rto > RTO_SLOWEST_US ? RTO_SLOWEST_US : rto;
}

/* How long the timer has run. */
static uint32_t age(const struct send_window *w, uint32_t now_us) {
    const uint32_t sent = now_us - oldest(w)->sent_us, progress = now_us - w->progress_us;
    return sent < progress ? sent : progress;
}

/* Time-out of the oldest frame; before the first sample the line may be the slowest. */
static uint32_t rto(const struct send_window *w) {
    const struct round_trip *trip = &w->trips[kind(oldest(w))];
    return trip->rto_us + (trip->samples ? 0 : oldest(w)->length * SLOWEST_BYTE_US);
}

bool send_deadline(const struct send_window *w, uint32_t now_us, uint32_t *in_us) {
    if (w->base == w->next) return false;
    const uint32_t once = rto(w), ran = age(w, now_us);
    uint32_t wait = once << w->backoff;
    if (wait > RTO_MAX_US) wait = once > RTO_MAX_US ? once : RTO_MAX_US;
    *in_us = wait > ran ? wait - ran : 0;
    return true;
}

void send_heard(struct send_window *w, uint16_t length, uint32_t now_us) {
    w->heard++;
    if (w->base == w->next || (uint16_t)(w->heard - oldest(w)->heard) > w->window) return; /* sent after the oldest should have arrived */
    const uint32_t ran = age(w, now_us), longest = (length + FRAME_ON_LINE) * SLOWEST_BYTE_US;
    w->progress_us = now_us;
    if (ran > longest) {
        w->progress_us -= ran - longest;
    } else if (ran > rto(w)) {
        measure(&w->trips[kind(oldest(w))], ran); /* one frame takes longer: the timer was too short */
    }
}

/* The timer has expired: the oldest is lost, and once the round trip is well known all that are as late. */
static void expire(struct send_window *w, uint32_t now_us, struct link_counters *c) {
    if (oldest(w)->tries >= TRIES_MAX) {
        w->out_of_tries = true;
        return;
    }
    if (w->backoff < LONGEST_BACKOFF) w->backoff++;
    c->retransmissions++;
    for (uint16_t n = w->base; n != w->next; n++) {
        struct flight *f = at(w, n);
        const struct round_trip *trip = &w->trips[kind(f)];
        const bool overdue = trip->samples >= SAMPLES_TO_TRUST && now_us - f->sent_us >= trip->rto_us;
        if (f->flying && (overdue || n == w->base)) f->lost = true;
    }
}

/* --- transmitting ------------------------------------------------------------------------ */

static void stamp(struct send_window *w, struct flight *f, uint32_t now_us) {
    f->sent_us = now_us;
    f->heard = w->heard;
    f->order = w->order++;
}

static const struct flight *cut(struct send_window *w, uint8_t channel, uint32_t now_us) {
    struct outbox *box = &w->outbox[channel];
    struct outgoing *message = &box->places[box->first];
    struct flight *f = at(w, w->next);
    const uint32_t left = message->size - message->cut;
    const bool last = left <= w->max_payload;
    f->length = (uint16_t)(last ? left : w->max_payload);
    f->flags = last ? FLAG_LAST : 0;
    f->channel = channel;
    f->tries = 1;
    f->later = 0;
    f->flying = true;
    f->lost = false;
    f->first_us = now_us;
    memcpy(f->payload, message->data + message->cut, f->length);
    message->cut += f->length;
    if (last) {
        box->first = (box->first + 1) % OUTBOX_PLACES;
        box->count--;
    }
    if (w->base == w->next) w->progress_us = now_us;
    w->next++;
    stamp(w, f, now_us);
    return f;
}

const struct flight *send_take(struct send_window *w, uint32_t now_us, uint16_t *sequence, struct link_counters *c) {
    uint32_t in_us;
    if (send_deadline(w, now_us, &in_us) && !in_us && !oldest(w)->lost) expire(w, now_us, c);
    if (w->out_of_tries) return NULL;
    for (uint16_t n = w->base; n != w->next; n++) {
        struct flight *f = at(w, n);
        if (!f->lost) continue;
        f->lost = false;
        f->tries++;
        f->later = 0;
        stamp(w, f, now_us);
        *sequence = n;
        return f;
    }
    if (in_flight(w) >= w->window) return NULL;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        if (!w->outbox[PRIORITY[i]].count) continue;
        c->frames_sent++;
        *sequence = w->next;
        return cut(w, PRIORITY[i], now_us);
    }
    return NULL;
}

/* --- acknowledgements --------------------------------------------------------------------- */

/* A frame counts as lost when three sent after it have arrived, or one sent clearly later. */
static void find_lost(struct send_window *w, const struct flight *arrived, uint32_t now_us, struct link_counters *c) {
    const struct round_trip *trip = &w->trips[kind(arrived)];
    if (arrived->tries > 1 && (!trip->samples || now_us - arrived->sent_us < trip->min_us)) {
        return; /* perhaps the first copy was slow: the repetition proves nothing */
    }
    for (uint16_t n = w->base; n != w->next; n++) {
        struct flight *f = at(w, n);
        if (!f->flying || f->order >= arrived->order) continue;
        const bool clearly = arrived->sent_us - f->sent_us > trip->srtt_us / 4;
        f->later = (uint8_t)(f->later + (clearly ? LATER_MEANS_LOST : 1));
        if (f->later >= LATER_MEANS_LOST) {
            if (!f->lost) c->fast_retransmissions++;
            f->lost = true;
            f->later = LATER_MEANS_LOST;
        }
    }
}

void send_acknowledge(struct send_window *w, uint16_t ack, uint32_t selective, uint32_t now_us, struct link_counters *c) {
    const uint16_t before = w->base, count = in_flight(w), advance = (uint16_t)(ack - before);
    if (!count || advance > count) return; /* older than what is in flight */
    uint32_t arrived = 0;                  /* bit i: frame before + i has arrived now */
    for (uint16_t i = 0; i < count; i++) {
        const int32_t place = (int32_t)i - (int32_t)advance - 1; /* in the bitmap */
        const bool held = i < advance || (place >= 0 && place < 32 && selective >> place & 1);
        if (held && at(w, (uint16_t)(before + i))->flying) arrived |= (uint32_t)1 << i;
    }
    if (!arrived) return;
    const struct flight *newest = NULL;
    for (uint16_t i = 0; i < count; i++) {
        struct flight *f = at(w, (uint16_t)(before + i));
        if (!(arrived >> i & 1)) continue;
        f->flying = f->lost = false;
        if (!newest || f->order > newest->order) newest = f;
    }
    while (w->base != w->next && !oldest(w)->flying) w->base++;
    w->progress_us = now_us;
    struct round_trip *trip = &w->trips[kind(newest)];
    if (newest->tries == 1) {
        measure(trip, now_us - newest->sent_us);
        w->backoff = 0;
    } else if (trip->samples && now_us - newest->sent_us < trip->min_us) {
        measure(trip, now_us - newest->first_us); /* too soon for the repetition: the first copy was slow */
    } else if (trip->samples && w->backoff > 1) {
        w->backoff = 1; /* either copy; without any sample the timer must go on growing */
    }
    if (w->base == w->next || oldest(w)->order >= newest->order) return;
    for (uint16_t i = 0; i < count; i++) {
        if (arrived >> i & 1) find_lost(w, at(w, (uint16_t)(before + i)), now_us, c);
    }
}
