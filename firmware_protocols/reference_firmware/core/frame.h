/* Frames: 00 | COBS(header 12 | payload | CRC-32C 4) | 00. */
#ifndef FRAME_H
#define FRAME_H

#include "limits.h"

struct frame {
    uint8_t flags, channel;
    uint16_t session, sequence, ack;
    uint32_t selective;
    const uint8_t *payload;
    uint16_t length;
};

/* What a link has seen; never reset. */
struct link_counters {
    uint32_t frames_received, bad_cobs, bad_length, bad_crc, bad_version;
    uint32_t frames_sent, acks_sent, retransmissions, fast_retransmissions;
    uint32_t duplicates, out_of_window, wrong_session, hellos, messages_received, messages_sent;
};

/* Bytes since the last delimiter; holds one frame at most, whatever comes. */
struct frame_reader {
    uint8_t open[FRAME_ENCODED];
    uint32_t size;
    bool too_long;
};

uint32_t crc32c(uint32_t crc, const uint8_t *data, uint32_t size); /* start with 0, chain as you like */

/* Writes one frame with its delimiters, at most FRAME_ENCODED bytes; gives how many. */
uint32_t frame_encode(const struct frame *frame, uint8_t *out);

/* Takes one byte; true when it completes a good frame, whose payload lies in the reader until the next byte. */
bool frame_feed(struct frame_reader *reader, uint8_t byte, struct link_counters *counters, struct frame *out);

#endif
