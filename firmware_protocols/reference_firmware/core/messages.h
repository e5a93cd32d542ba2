/* Messages: requests read from their bytes with every size checked first, replies written. */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "limits.h"

/* Packed integers of a request, still in its bytes. */
struct wire_ints {
    const uint8_t *data;
    uint32_t count;
    uint8_t item; /* low nibble: bytes an element; bit 7: signed */
};

int64_t ints_get(const struct wire_ints *ints, uint32_t index);

/* What is left of a body; `broken` once something did not fit. */
struct body {
    const uint8_t *at;
    uint32_t left;
    bool broken;
};

struct layer_tile {
    struct wire_tile address;
    struct wire_layer_tile fixed;
    struct wire_ints gain, offset, input_gain;
};

struct request {
    uint8_t op;
    uint16_t id;
    struct wire_cells cells;
    struct wire_tile tile;
    struct wire_program program;
    struct wire_pulse pulse;
    struct wire_read_cells read;
    struct wire_wait wait;
    struct wire_compute compute;
    struct wire_mvm mvm;
    struct wire_sweep sweep;
    struct wire_load_layer layer;
    struct wire_load_plan load_plan;
    struct wire_run_plan run_plan;
    struct wire_ints values;                 /* targets, millivolts, codes, words of a plan, pixels or bytes of an image */
    struct wire_ints bias, multiplier, shift; /* of a layer */
    struct body layer_tiles;                 /* of a layer, one after the other: layer_tile_read */
    uint16_t reads;                          /* of a layer: the most of a tile, a multiple of each */
    const uint8_t *digest, *proof;
    struct wire_authorise authorise;
    uint32_t length; /* of an image, or a place in it */
};

enum read_outcome { READ_WELL, READ_MALFORMED, READ_UNKNOWN };

/* Reads a request of `size` bytes; it points into them. */
enum read_outcome request_read(const uint8_t *data, uint32_t size, struct request *to);

/* Takes the next tile of a layer off the body. */
void layer_tile_read(struct body *body, struct layer_tile *to);

/* Positions of a window over a padded map, across one axis. */
uint32_t window_steps(uint32_t size, uint32_t padding, uint32_t kernel, uint32_t stride, uint32_t dilation);

/* --- replies ------------------------------------------------------------------------------ */

/* A reply being written; `size` beyond `room` says that it did not fit. */
struct reply {
    uint8_t *data;
    uint32_t room, size;
};

/* Room for `size` bytes at the end, or NULL when the reply is full. */
uint8_t *reply_room(struct reply *reply, uint32_t size);

void reply_begin(struct reply *reply, uint8_t op, uint16_t request_id, uint64_t chip_time_ns);
void reply_text(struct reply *reply, const char *text);

/* An array of `count` integers: room to put them as int16 or int32 (`width` 2 or 4), then packed into the smallest item. */
uint8_t *reply_ints(struct reply *reply, uint32_t count, uint32_t width);
void reply_pack_ints(struct reply *reply, uint32_t count, uint32_t width);

/* Counts from 0 to 2^32 − 1 in the smallest item that holds them. */
void reply_counts(struct reply *reply, const uint32_t *counts, uint32_t count);

/* A number as a float of 8 bytes; a compiler's own conversion brings all arithmetic of doubles along, 0.9 kB of flash. */
double f64_of_int(int64_t number);
double f64_of_float(float number);

void reply_error(struct reply *reply, uint16_t request_id, uint64_t time_ns, uint16_t code, const char *text,
                 int64_t value, int64_t limit);

#endif
