#include "messages.h"

#pragma GCC optimize("Os") /* small before fast */

/* --- taking a body apart --------------------------------------------------------------------- */

static const uint8_t *take(struct body *body, uint32_t size) {
    if (body->broken || size > body->left) {
        body->broken = true;
        return NULL;
    }
    const uint8_t *at = body->at;
    body->at += size;
    body->left -= size;
    return at;
}

#define TAKE(body, name, to)                                  \
    do {                                                      \
        const uint8_t *fixed_ = take(body, WIRE_##name##_SIZE); \
        if (fixed_) GET_##name(fixed_, to);                   \
    } while (0)
#define GET_HELLO wire_get_hello
#define GET_CELLS wire_get_cells
#define GET_TILE wire_get_tile
#define GET_PROGRAM wire_get_program
#define GET_PULSE wire_get_pulse
#define GET_READ_CELLS wire_get_read_cells
#define GET_WAIT wire_get_wait
#define GET_COMPUTE wire_get_compute
#define GET_MVM wire_get_mvm
#define GET_SWEEP wire_get_sweep
#define GET_LOAD_LAYER wire_get_load_layer
#define GET_LOAD_PLAN wire_get_load_plan
#define GET_RUN_PLAN wire_get_run_plan
#define GET_LAYER_TILE wire_get_layer_tile
#define GET_AUTHORISE wire_get_authorise

/* a · b, or more than fits a body when it is that much or nothing. */
static uint32_t area(uint32_t a, uint32_t b) {
    const uint64_t size = (uint64_t)a * b;
    return size == 0 || size > MAX_MESSAGE ? UINT32_MAX : (uint32_t)size;
}

static void take_counts(struct body *body, uint32_t count, struct wire_ints *to) {
    *to = (struct wire_ints){NULL, count, 2};
    to->data = take(body, count > MAX_MESSAGE ? UINT32_MAX : 2 * count);
}

/* An array with an item byte; `widest` is the largest item of its type, with ITEM_SIGNED. */
static void take_ints(struct body *body, uint32_t count, uint8_t widest, struct wire_ints *to) {
    const uint8_t *item = take(body, 1);
    if (!item) return;
    const uint32_t size = *item & 0x0F, most = widest & 0x0F;
    const bool has_sign = *item & ITEM_SIGNED;
    const bool known = !(*item & 0x70) && (size == 1 || size == 2 || size == 4 || (size == 8 && has_sign));
    const bool fits = has_sign ? widest & ITEM_SIGNED && size <= most : size < most + !(widest & ITEM_SIGNED);
    if (!known || !fits || count > MAX_MESSAGE) {
        body->broken = true;
        return;
    }
    *to = (struct wire_ints){take(body, count * size), count, *item};
}

static void take_options(struct body *body) {
    while (!body->broken && body->left) {
        const uint8_t *head = take(body, 3);
        if (head) take(body, get_u16(head + 1));
    }
}

int64_t ints_get(const struct wire_ints *ints, uint32_t index) {
    switch (ints->item) {
    case 1: return ints->data[index];
    case 2: return get_u16(ints->data + 2 * index);
    case 4: return get_u32(ints->data + 4 * index);
    case ITEM_SIGNED | 1: return (int8_t)ints->data[index];
    case ITEM_SIGNED | 2: return (int16_t)get_u16(ints->data + 2 * index);
    case ITEM_SIGNED | 4: return get_i32(ints->data + 4 * index);
    default: return (int64_t)get_u64(ints->data + 8 * index);
    }
}

/* --- requests --------------------------------------------------------------------------------- */

static void take_block(struct body *body, struct request *to) {
    TAKE(body, CELLS, &to->cells);
    if (!to->cells.rows || !to->cells.columns) body->broken = true;
}

static void take_compute(struct body *body, struct request *to) {
    TAKE(body, COMPUTE, &to->compute);
    TAKE(body, TILE, &to->tile);
    const bool has_tile = to->compute.flags & COMPUTE_HAS_TILE;
    if (has_tile && (!to->tile.rows || !to->tile.outputs)) body->broken = true;
    if (!has_tile && to->compute.returns != RETURNS_LAYER) body->broken = true;
    if (to->compute.returns > RETURNS_LAYER) body->broken = true;
    if (!to->compute.reads) to->compute.reads = 1;
    if (to->compute.reads > READS_MAX) body->broken = true;
    if (to->compute.reads > 1 && to->compute.returns != RETURNS_SUMS) body->broken = true;
}

static void take_mvm(struct body *body, struct request *to) {
    take_compute(body, to);
    TAKE(body, MVM, &to->mvm);
    if (!to->mvm.vectors_per_sample) body->broken = true;
    take_ints(body, area(to->mvm.vectors, to->mvm.rows), ITEM_SIGNED | 2, &to->values);
}

uint32_t window_steps(uint32_t size, uint32_t padding, uint32_t kernel, uint32_t stride, uint32_t dilation) {
    const uint64_t reach = (uint64_t)dilation * (kernel - 1) + 1, padded = (uint64_t)size + 2 * padding;
    return reach > padded ? 0 : (uint32_t)((padded - reach) / stride + 1);
}

/* Whether a sweep stays within UNFOLDED_MAX input codes, padded or unfolded. */
static bool sweep_fits(const struct wire_sweep *s, uint32_t down, uint32_t across) {
    const uint64_t padded = (uint64_t)(s->height + 2u * s->padding_y) * (s->width + 2u * s->padding_x);
    const uint64_t height = (uint64_t)down * s->kernel_y, width = (uint64_t)across * s->kernel_x;
    if (height > UNFOLDED_MAX || width > UNFOLDED_MAX || padded > UNFOLDED_MAX) return false;
    const uint64_t most = height * width > padded ? height * width : padded;
    return most <= UNFOLDED_MAX && (uint64_t)s->images * s->channels * most <= UNFOLDED_MAX;
}

static void take_sweep(struct body *body, struct request *to) {
    struct wire_sweep *s = &to->sweep;
    take_compute(body, to);
    TAKE(body, SWEEP, s);
    if (body->broken) return;
    if (!s->kernel_y || !s->kernel_x || !s->stride_y || !s->stride_x || !s->dilation_y || !s->dilation_x) {
        body->broken = true;
        return;
    }
    const uint32_t down = window_steps(s->height, s->padding_y, s->kernel_y, s->stride_y, s->dilation_y);
    const uint32_t across = window_steps(s->width, s->padding_x, s->kernel_x, s->stride_x, s->dilation_x);
    const uint32_t codes = area(area(s->images, s->channels), area(s->height, s->width));
    if (!down || !across || codes > MAX_MESSAGE || !sweep_fits(s, down, across)) {
        body->broken = true;
        return;
    }
    take_ints(body, codes, ITEM_SIGNED | 2, &to->values);
}

void layer_tile_read(struct body *body, struct layer_tile *to) {
    TAKE(body, TILE, &to->address);
    TAKE(body, LAYER_TILE, &to->fixed);
    if (!to->fixed.reads) to->fixed.reads = 1;
    if (body->broken || !to->address.outputs || to->fixed.reads > READS_MAX) {
        body->broken = true;
        return;
    }
    take_ints(body, to->address.outputs, ITEM_SIGNED | 4, &to->gain);
    take_ints(body, to->address.outputs, ITEM_SIGNED | 8, &to->offset);
    take_ints(body, to->address.outputs, ITEM_SIGNED | 4, &to->input_gain);
}

static void take_layer(struct body *body, struct request *to) {
    TAKE(body, LOAD_LAYER, &to->layer);
    if (body->broken || !to->layer.outputs) {
        body->broken = true;
        return;
    }
    take_ints(body, to->layer.outputs, ITEM_SIGNED | 4, &to->bias);
    take_ints(body, to->layer.outputs, ITEM_SIGNED | 4, &to->multiplier);
    take_ints(body, to->layer.outputs, ITEM_SIGNED | 4, &to->shift);
    to->layer_tiles = *body;
    struct layer_tile tile;
    to->reads = 1;
    for (uint32_t i = 0; i < to->layer.tiles && !body->broken; i++) {
        layer_tile_read(body, &tile);
        if (!body->broken && tile.fixed.reads > to->reads) to->reads = tile.fixed.reads;
    }
    struct body again = to->layer_tiles;
    for (uint32_t i = 0; i < to->layer.tiles && !body->broken; i++) {
        layer_tile_read(&again, &tile);
        if (to->reads % tile.fixed.reads) body->broken = true;
    }
}

#if PLAN_WORDS
static void take_plan(struct body *body, struct request *to) {
    TAKE(body, LOAD_PLAN, &to->load_plan);
    const struct wire_load_plan *p = &to->load_plan;
    if (!p->count || p->offset > p->total || p->total - p->offset < p->count) body->broken = true;
    take_ints(body, p->count, ITEM_SIGNED | 4, &to->values);
}

static void take_run(struct body *body, struct request *to) {
    TAKE(body, RUN_PLAN, &to->run_plan);
    const struct wire_run_plan *p = &to->run_plan;
    const uint32_t pixels = area(area(p->images, p->height), area(p->width, p->channels));
    if (!p->passes) body->broken = true;
    to->values = (struct wire_ints){take(body, pixels), pixels, 1};
}
#endif

static uint32_t take_length(struct body *body) {
    const uint8_t *at = take(body, WIRE_LENGTH_SIZE);
    return at ? get_u32(at) : 0;
}

static void take_chunk(struct body *body, struct request *to) {
    to->length = take_length(body);
    const uint32_t size = take_length(body);
    to->values = (struct wire_ints){take(body, size), size, 1};
    if (!size) body->broken = true;
}

static void take_authorise(struct body *body, struct request *to) {
    TAKE(body, AUTHORISE, &to->authorise);
    to->proof = take(body, PROOF_BYTES);
    if (to->authorise.level > LEVEL_SERVICE) body->broken = true;
}

enum read_outcome request_read(const uint8_t *data, uint32_t size, struct request *to) {
    struct body body = {data, size, false};
    struct wire_message head;
    memset(to, 0, sizeof *to);
    const uint8_t *at = take(&body, WIRE_MESSAGE_SIZE);
    if (!at) return READ_MALFORMED;
    wire_get_message(at, &head);
    to->op = head.op;
    to->id = head.request_id;
    switch (head.op) {
    case OP_DESCRIBE:
    case OP_STATUS:
    case OP_OUTPUTS_OFF:
    case OP_RESET:
    case OP_CHALLENGE:
    case OP_DROP_AUTHORITY:
    case OP_IMAGE_STATUS:
    case OP_JOURNAL: break;
    case OP_AUTHORISE: take_authorise(&body, to); break;
    case OP_IMAGE_CHUNK: take_chunk(&body, to); break;
    case OP_IMAGE_COMMIT: to->digest = take(&body, DIGEST_BYTES); break;
    case OP_IMAGE_BEGIN:
    case OP_IMAGE_TILE:
        to->digest = take(&body, DIGEST_BYTES);
        to->length = take_length(&body);
        break;
    case OP_WAIT: TAKE(&body, WAIT, &to->wait); break;
    case OP_HOLD_PROGRAM: to->digest = take(&body, DIGEST_BYTES); break;
    case OP_PROGRAM_TILE:
        take_block(&body, to);
        TAKE(&body, PROGRAM, &to->program);
        take_counts(&body, area(to->cells.rows, to->cells.columns), &to->values);
        break;
    case OP_PULSE:
        take_block(&body, to);
        TAKE(&body, PULSE, &to->pulse);
        take_counts(&body, area(to->cells.rows, to->cells.columns), &to->values);
        if (to->pulse.polarity > POLARITY_RESET) body.broken = true;
        break;
    case OP_READ_CELLS:
        take_block(&body, to);
        TAKE(&body, READ_CELLS, &to->read);
        break;
    case OP_MVM: take_mvm(&body, to); break;
    case OP_SWEEP: take_sweep(&body, to); break;
    case OP_LOAD_LAYER: take_layer(&body, to); break;
#if PLAN_WORDS
    case OP_LOAD_PLAN: take_plan(&body, to); break;
    case OP_RUN_PLAN: take_run(&body, to); break;
#endif
    default: return READ_UNKNOWN;
    }
    take_options(&body);
    return body.broken ? READ_MALFORMED : READ_WELL;
}

/* --- replies ---------------------------------------------------------------------------------- */

uint8_t *reply_room(struct reply *reply, uint32_t size) {
    if (reply->size > reply->room || size > reply->room - reply->size) {
        reply->size = reply->room + 1; /* it did not fit, and nothing more will */
        return NULL;
    }
    uint8_t *at = reply->data + reply->size;
    reply->size += size;
    return at;
}

void reply_begin(struct reply *reply, uint8_t op, uint16_t request_id, uint64_t chip_time_ns) {
    const struct wire_message head = {op, 0, request_id};
    const struct wire_chip_time time = {chip_time_ns};
    reply->size = 0;
    uint8_t *at = reply_room(reply, WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE);
    if (!at) return;
    wire_put_message(at, &head);
    wire_put_chip_time(at + WIRE_MESSAGE_SIZE, &time);
}

void reply_text(struct reply *reply, const char *text) {
    uint16_t size = 0;
    while (text[size]) size++;
    uint8_t *at = reply_room(reply, 2u + size);
    if (!at) return;
    put_u16(at, size);
    memcpy(at + 2, text, size);
}

uint8_t *reply_ints(struct reply *reply, uint32_t count, uint32_t width) {
    if (count > reply->room / width) {
        reply->size = reply->room + 1;
        return NULL;
    }
    uint8_t *item = reply_room(reply, 1 + width * count);
    return item ? item + 1 : NULL;
}

void reply_pack_ints(struct reply *reply, uint32_t count, uint32_t width) {
    if (reply->size > reply->room) return;
    const struct wire_ints staged = {reply->data + reply->size - width * count, count, (uint8_t)(ITEM_SIGNED | width)};
    uint8_t *values = reply->data + reply->size - width * count;
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (uint32_t i = 0; i < count; i++) {
        const int32_t value = (int32_t)ints_get(&staged, i);
        if (value < low) low = value;
        if (value > high) high = value;
    }
    uint8_t item = ITEM_SIGNED | 4;
    if (low >= 0 && high <= UINT8_MAX) item = 1;
    else if (low >= INT8_MIN && high <= INT8_MAX) item = ITEM_SIGNED | 1;
    else if (low >= 0 && high <= UINT16_MAX) item = 2;
    else if (low >= INT16_MIN && high <= INT16_MAX) item = ITEM_SIGNED | 2;
    values[-1] = item;
    const uint32_t size = item & 0x0F;
    for (uint32_t i = 0; i < count && size < width; i++) {
        const uint32_t value = (uint32_t)ints_get(&staged, i);
        if (size == 1) put_u8(values + i, (uint8_t)value);
        else put_u16(values + 2 * i, (uint16_t)value);
    }
    reply->size -= (width - size) * count;
}

void reply_counts(struct reply *reply, const uint32_t *counts, uint32_t count) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < count; i++) most = counts[i] > most ? counts[i] : most;
    const uint8_t item = most <= UINT8_MAX ? 1 : most <= UINT16_MAX ? 2 : 4;
    uint8_t *at = reply_room(reply, 1 + item * count);
    if (!at) return;
    *at++ = item;
    for (uint32_t i = 0; i < count; i++, at += item) {
        if (item == 1) put_u8(at, (uint8_t)counts[i]);
        else if (item == 2) put_u16(at, (uint16_t)counts[i]);
        else put_u32(at, counts[i]);
    }
}

/* --- floats of 8 bytes, by their bits ----------------------------------------------------------- */

#define MANTISSA_BITS 52u
#define BIAS 1023u

static double f64_of(bool negative, uint32_t exponent, uint64_t mantissa) {
    union { uint64_t bits; double value; } both;
    both.bits = (negative ? 1ull << 63 : 0) | (uint64_t)exponent << MANTISSA_BITS | (mantissa & ((1ull << MANTISSA_BITS) - 1));
    return both.value;
}

double f64_of_int(int64_t number) {
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    uint32_t exponent = BIAS + MANTISSA_BITS;
    if (!size) return f64_of(false, 0, 0);
    for (; size >> (MANTISSA_BITS + 1); size >>= 1) exponent++; /* beyond 2^53 the last bits are cut off */
    for (; !(size >> MANTISSA_BITS); size <<= 1) exponent--;
    return f64_of(number < 0, exponent, size);
}

double f64_of_float(float number) {
    union { float value; uint32_t bits; } both = {number};
    const uint32_t exponent = both.bits >> 23 & 0xFFu; /* 0: zero, or too near it to matter; 255: not a number */
    const uint64_t mantissa = exponent ? (uint64_t)(both.bits & 0x7FFFFFu) << (MANTISSA_BITS - 23) : 0;
    const uint32_t wider = exponent == 0xFFu ? 0x7FFu : exponent + BIAS - 127u;
    return f64_of(both.bits >> 31, exponent ? wider : 0, mantissa);
}

void reply_error(struct reply *reply, uint16_t request_id, uint64_t time_ns, uint16_t code, const char *text,
                 int64_t value, int64_t limit) {
    const struct wire_error fixed = {code, f64_of_int(value), f64_of_int(limit)};
    reply_begin(reply, OP_ERROR, request_id, time_ns);
    uint8_t *at = reply_room(reply, WIRE_ERROR_SIZE);
    if (at) wire_put_error(at, &fixed);
    reply_text(reply, text);
}
