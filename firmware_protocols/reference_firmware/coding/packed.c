/* An arithmetic coder of bits with one adaptive model: a body is coded in one go, of the size of a message at most. */
#include "packed.h"

#include "../core/limits.h"

#pragma GCC optimize("Os") /* small before fast */

#if PACKED_BODIES

enum { PLACES = 8, MODELS = 256, LEAST = 64, MOST_COUNT = 12 };

static struct {
    uint16_t chance[PLACES][MODELS];
    uint8_t count[PLACES][MODELS];
    uint32_t low, high;
} coder;

static void begin(void) {
    for (uint32_t place = 0; place < PLACES; place++) {
        for (uint32_t node = 0; node < MODELS; node++) {
            coder.chance[place][node] = 1u << 15;
            coder.count[place][node] = 0;
        }
    }
    coder.low = 0;
    coder.high = UINT32_MAX;
}

static uint32_t middle(uint32_t place, uint32_t node) {
    return coder.low + (uint32_t)(((uint64_t)(coder.high - coder.low) * coder.chance[place][node]) >> 16);
}

static void decide(uint32_t place, uint32_t node, uint32_t middle_now, bool bit) {
    uint16_t *chance = &coder.chance[place][node];
    uint8_t *count = &coder.count[place][node];
    const uint32_t shift = 1u + *count / 3u;
    if (bit) {
        coder.high = middle_now;
        *chance = (uint16_t)(*chance + ((65536u - *chance) >> shift));
    } else {
        coder.low = middle_now + 1;
        *chance = (uint16_t)(*chance - (*chance >> shift));
    }
    if (*count < MOST_COUNT) ++*count;
}

/* Of the byte at i: its models are those of i mod 4 and of the highest bit before it. */
static uint32_t place_of(const uint8_t *body, uint32_t i) { return 2 * (i % 4) + (i ? body[i - 1] >> 7 : 0u); }

static bool settled(void) { return !((coder.low ^ coder.high) >> 24); }

static void shift(void) {
    coder.low <<= 8;
    coder.high = coder.high << 8 | 0xFF;
}

/* Bytes of the code, or 0 where they are more than `room`. */
static uint32_t code(const uint8_t *body, uint32_t size, uint8_t *out, uint32_t room) {
    uint32_t written = 0;
    begin();
    for (uint32_t i = 0; i < size; i++) {
        const uint32_t place = place_of(body, i);
        uint32_t node = 1;
        for (uint32_t left = 8; left--;) {
            const bool bit = body[i] >> left & 1;
            decide(place, node, middle(place, node), bit);
            node = 2 * node + bit;
            for (; settled(); shift()) {
                if (written == room) return 0;
                out[written++] = (uint8_t)(coder.high >> 24);
            }
        }
    }
    if (written + 4 > room) return 0;
    for (uint32_t left = 4; left--;) out[written++] = (uint8_t)(coder.low >> 8 * left);
    return written;
}

static bool read_code(const uint8_t *from, uint32_t size, uint8_t *out, uint32_t length) {
    uint32_t value = 0, at = 0;
    if (size < 4) return false;
    while (at < 4) value = value << 8 | from[at++];
    begin();
    for (uint32_t i = 0; i < length; i++) {
        const uint32_t place = place_of(out, i);
        uint32_t node = 1;
        while (node < MODELS) {
            const uint32_t middle_now = middle(place, node);
            const bool bit = value <= middle_now;
            decide(place, node, middle_now, bit);
            node = 2 * node + bit;
            for (; settled(); shift()) {
                if (at == size) return false;
                value = value << 8 | from[at++];
            }
        }
        out[i] = (uint8_t)node;
    }
    return at == size && value == coder.low;
}

static uint32_t head_size(const uint8_t *message) {
    return WIRE_MESSAGE_SIZE + (message[0] & 0x80 ? WIRE_CHIP_TIME_SIZE : 0);
}

uint32_t packed_read(const uint8_t *message, uint32_t size, uint8_t *to, uint32_t room) {
    const uint32_t head = size ? head_size(message) : 0, start = head + WIRE_LENGTH_SIZE;
    if (size < WIRE_MESSAGE_SIZE || size < start) return 0;
    const uint32_t length = get_u32(message + head);
    if (room < head || length > room - head) return 0;
    if (!read_code(message + start, size - start, to + head, length)) return 0;
    memcpy(to, message, head);
    to[1] &= (uint8_t)~FLAG_PACKED;
    return head + length;
}

uint32_t packed_write(uint8_t *message, uint32_t size, uint8_t *elsewhere, uint32_t room) {
    const uint32_t head = head_size(message), length = size - head;
    if (size < head + LEAST) return size;
    const uint32_t shorter = length - WIRE_LENGTH_SIZE - 1;
    const uint32_t coded = code(message + head, length, elsewhere, shorter < room ? shorter : room);
    if (!coded) return size;
    message[1] |= FLAG_PACKED;
    put_u32(message + head, length);
    memcpy(message + head + WIRE_LENGTH_SIZE, elsewhere, coded);
    return head + WIRE_LENGTH_SIZE + coded;
}

#else

uint32_t packed_read(const uint8_t *message, uint32_t size, uint8_t *to, uint32_t room) {
    (void)message, (void)size, (void)to, (void)room;
    return 0;
}

uint32_t packed_write(uint8_t *message, uint32_t size, uint8_t *elsewhere, uint32_t room) {
    (void)message, (void)elsewhere, (void)room;
    return size;
}

#endif
