#include "frame.h"

/* CRC-32C, reflected polynomial 0x82F63B78, four bits at a time: 64 bytes of table, as fits a small flash. */
static const uint32_t NIBBLES[16] = {
    0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
    0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
};

uint32_t crc32c(uint32_t crc, const uint8_t *data, uint32_t size) {
    crc = ~crc;
    while (size--) {
        crc ^= *data++;
        crc = crc >> 4 ^ NIBBLES[crc & 15];
        crc = crc >> 4 ^ NIBBLES[crc & 15];
    }
    return ~crc;
}

/* --- sending ---------------------------------------------------------------------------- */

struct stuffing {
    uint8_t *out;
    uint32_t at;   /* next byte to write */
    uint32_t code; /* where the length of the open block goes */
    bool full;     /* the last block had 254 bytes; the next byte opens another */
};

static void stuff(struct stuffing *s, const uint8_t *data, uint32_t size) {
    for (; size--; data++) {
        if (s->full) {
            s->code = s->at++;
            s->full = false;
        }
        if (*data) {
            s->out[s->at++] = *data;
            if (s->at - s->code == 255) {
                s->out[s->code] = 255;
                s->full = true;
            }
        } else {
            s->out[s->code] = (uint8_t)(s->at - s->code);
            s->code = s->at++;
        }
    }
}

uint32_t frame_encode(const struct frame *frame, uint8_t *out) {
    uint8_t header[WIRE_FRAME_SIZE], crc[4];
    const struct wire_frame fields = {
        .version_flags = (uint8_t)(FRAME_MAJOR << 4 | frame->flags),
        .channel = frame->channel,
        .session = frame->session,
        .sequence = frame->sequence,
        .ack = frame->ack,
        .selective = frame->selective,
    };
    wire_put_frame(header, &fields);
    put_u32(crc, crc32c(crc32c(0, header, sizeof header), frame->payload, frame->length));
    struct stuffing s = {.out = out, .at = 2, .code = 1, .full = false};
    out[0] = 0;
    stuff(&s, header, sizeof header);
    stuff(&s, frame->payload, frame->length);
    stuff(&s, crc, sizeof crc);
    if (!s.full) out[s.code] = (uint8_t)(s.at - s.code);
    out[s.at++] = 0;
    return s.at;
}

/* --- receiving -------------------------------------------------------------------------- */

/* Undoes COBS in place; gives the size, or −1 when it is broken. */
static int32_t unstuff(uint8_t *data, uint32_t size) {
    uint32_t from = 0, to = 0;
    while (from < size) {
        const uint32_t code = data[from++];
        if (code == 0 || from + code - 1 > size) return -1;
        for (uint32_t i = 1; i < code; i++) data[to++] = data[from++];
        if (code < 255 && from < size) data[to++] = 0;
    }
    return (int32_t)to;
}

static bool take(struct frame_reader *reader, struct link_counters *counters, struct frame *out) {
    uint8_t *raw = reader->open;
    const int32_t size = unstuff(raw, reader->size);
    if (size < 0) {
        counters->bad_cobs++;
        return false;
    }
    if (size < (int32_t)FRAME_OVERHEAD || size > (int32_t)FRAME_RAW) {
        counters->bad_length++;
        return false;
    }
    const uint32_t body = (uint32_t)size - 4;
    if (crc32c(0, raw, body) != get_u32(raw + body)) {
        counters->bad_crc++;
        return false;
    }
    struct wire_frame fields;
    wire_get_frame(raw, &fields);
    const uint8_t flags = fields.version_flags & 15;
    if (flags & FLAG_AUTH || (fields.version_flags >> 4 != FRAME_MAJOR && !(flags & FLAG_RESET))) {
        counters->bad_version++;
        return false;
    }
    counters->frames_received++;
    *out = (struct frame){
        .flags = flags,
        .channel = fields.channel,
        .session = fields.session,
        .sequence = fields.sequence,
        .ack = fields.ack,
        .selective = fields.selective,
        .payload = raw + WIRE_FRAME_SIZE,
        .length = (uint16_t)(body - WIRE_FRAME_SIZE),
    };
    return true;
}

bool frame_feed(struct frame_reader *reader, uint8_t byte, struct link_counters *counters, struct frame *out) {
    if (byte) {
        if (reader->size < sizeof reader->open - 2) {
            reader->open[reader->size++] = byte;
        } else {
            reader->too_long = true;
        }
        return false;
    }
    bool good = false;
    if (reader->too_long) {
        counters->bad_length++;
    } else if (reader->size) {
        good = take(reader, counters, out);
    }
    reader->size = 0;
    reader->too_long = false;
    return good;
}
