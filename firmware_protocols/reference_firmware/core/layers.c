/* Layers that the host has loaded, as the messages that brought them, one after the other in one arena. */
#include "chip.h"

#pragma GCC optimize("Os") /* small before fast */

static struct {
    uint8_t bytes[LAYER_BYTES]; /* size u32 and message of each */
    uint32_t end;
} layers;

void layers_forget(void) { layers.end = 0; }

/* Place of a layer in the arena, or its end. */
static uint32_t place_of(uint16_t layer) {
    uint32_t at = 0;
    while (at < layers.end && get_u16(layers.bytes + at + 4 + WIRE_MESSAGE_SIZE) != layer) at += 4 + get_u32(layers.bytes + at);
    return at;
}

bool layers_find(uint16_t layer, struct request *to) {
    const uint32_t at = place_of(layer);
    if (at == layers.end) return false;
    request_read(layers.bytes + at + 4, get_u32(layers.bytes + at), to);
    return true;
}

static enum work check_shift(struct job *job, int64_t shift) {
    if (shift < 0 || shift > 62) return refuse(job, ERROR_OUT_OF_RANGE, "shifts are 0 to 62", shift, 62);
    return WORK_DONE;
}

static enum work check_layer(struct job *job) {
    const struct request *r = job->request;
    struct body body = r->layer_tiles;
    struct layer_tile t;
    if (!r->layer.tiles) return refuse(job, ERROR_MALFORMED, "a layer has at least one tile", 0, 1);
    if (r->layer.outputs > LAYER_OUTPUTS) return refuse(job, ERROR_LIMIT, "outputs of a layer", r->layer.outputs, LAYER_OUTPUTS);
    for (uint32_t i = 0; i < r->layer.tiles; i++) {
        layer_tile_read(&body, &t);
        if (check_tile(job, &t.address) != WORK_DONE || check_shift(job, t.fixed.shift) != WORK_DONE) return WORK_REFUSED;
        if (t.fixed.first_input > r->layer.inputs || r->layer.inputs - t.fixed.first_input < t.address.rows) {
            return refuse(job, ERROR_OUT_OF_RANGE, "inputs beyond the layer", t.fixed.first_input, r->layer.inputs);
        }
        if (t.fixed.first_output > r->layer.outputs || r->layer.outputs - t.fixed.first_output < t.address.outputs) {
            return refuse(job, ERROR_OUT_OF_RANGE, "outputs beyond the layer", t.fixed.first_output, r->layer.outputs);
        }
    }
    for (uint32_t o = 0; o < r->layer.outputs; o++) {
        if (check_shift(job, ints_get(&r->shift, o)) != WORK_DONE) return WORK_REFUSED;
    }
    return WORK_DONE;
}

/* The message of a layer, from its first byte to the end of its last tile. */
enum work chip_load_layer(struct job *job) {
    const struct request *r = job->request;
    if (check_layer(job) != WORK_DONE) return WORK_REFUSED;
    struct body body = r->layer_tiles;
    struct layer_tile tile;
    for (uint32_t i = 0; i < r->layer.tiles; i++) layer_tile_read(&body, &tile);
    /* Fixed part and three tables lie before the tiles, from the item byte of the bias back. */
    const uint8_t *start = r->bias.data - 1 - WIRE_LOAD_LAYER_SIZE - WIRE_MESSAGE_SIZE;
    const uint32_t size = (uint32_t)(body.at - start);
    const uint32_t at = place_of(r->layer.layer);
    if (at < layers.end) { /* loaded before: the new one takes its place */
        const uint32_t old = 4 + get_u32(layers.bytes + at);
        memmove(layers.bytes + at, layers.bytes + at + old, layers.end - at - old);
        layers.end -= old;
    }
    if (size + 4 > LAYER_BYTES - layers.end) {
        return refuse(job, ERROR_LIMIT, "bytes of loaded layers", layers.end + size, LAYER_BYTES);
    }
    put_u32(layers.bytes + layers.end, size);
    memcpy(layers.bytes + layers.end + 4, start, size);
    layers.end += size + 4;
    return WORK_DONE;
}
