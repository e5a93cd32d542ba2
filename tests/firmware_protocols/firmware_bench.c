/* The firmware on a bench of pipes: a test drives its clock, its line and its parts, one command after the other.
 * Command: kind u8, time u64 in µs, size u32, bytes. Answer: size u32, bytes. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/chip.h"
#include "../core/digital.h"
#include "../nonvolatile/memory.h"
#include "../core/server.h"
#include "../nonvolatile/sha256.h"
#include "../die/die.h"

#define ROOM (1u << 22)

static uint8_t in[ROOM], out[ROOM];
static uint32_t out_size;

/* --- memory without power, and a supply that fails after so many bytes more ---------------------------------- */

/* The clock moves with each command, and by a little each time that the firmware looks at it. */
#define LOOK_US 100u
static uint64_t clock_us;

uint64_t board_us(void) { return clock_us += LOOK_US; }

static uint8_t kept[MEMORY_BYTES], key[KEY_BYTES];
static uint64_t bytes_left = UINT64_MAX;
static bool has_key, dead;
static jmp_buf power_lost;

const uint8_t *memory_at(uint32_t at) { return kept + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) {
    const uint32_t lasting = size < bytes_left ? size : (uint32_t)bytes_left;
    memcpy(kept + at, data, lasting);
    if (bytes_left != UINT64_MAX) bytes_left -= lasting;
    if (lasting < size) longjmp(power_lost, 1);
}

const uint8_t *board_key(void) { return has_key ? key : NULL; }

uint64_t board_epoch(void) {
    static uint64_t epoch;
    return ++epoch;
}

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    out_size += (uint32_t)vsnprintf((char *)out + out_size, ROOM - out_size, format, arguments);
    va_end(arguments);
}

/* --- a request as the lines of its golden file ------------------------------------------------------------ */

static void say_ints(const char *name, const struct wire_ints *ints, const char *shape) {
    say("%s.shape = %s\n%s =", name, shape, name);
    for (uint32_t i = 0; i < ints->count; i++) say(" %" PRId64, ints_get(ints, i));
    say("\n");
}

static void say_cells(const struct wire_cells *c) {
    say("cells.macro = %u\ncells.row0 = %u\ncells.rows = %u\ncells.column0 = %u\ncells.columns = %u\n", c->macro, c->row0,
        c->rows, c->column0, c->columns);
}

static void say_tile(const char *name, const struct wire_tile *t) {
    say("%s.macro = %u\n%s.row0 = %u\n%s.rows = %u\n", name, t->macro, name, t->row0, name, t->rows);
    say("%s.output0 = %u\n%s.outputs = %u\n", name, t->output0, name, t->outputs);
}

static void say_compute(const struct request *r) {
    say("returns = %u\n", r->compute.returns);
    if (r->compute.flags & COMPUTE_HAS_TILE) say_tile("tile", &r->tile);
    else say("tile = none\n");
    say("layer = %u\nrange_code = %u\ninput_bits = %u\ninput_signed = %d\n", r->compute.layer, r->compute.range_code,
        r->compute.input_bits, (r->compute.flags & COMPUTE_SIGNED) != 0);
}

static void say_layer(const struct request *r) {
    char shape[16], name[32];
    struct body body = r->layer_tiles;
    struct layer_tile t;
    snprintf(shape, sizeof shape, "%u", r->layer.outputs);
    say("layer = %u\ninputs = %u\noutputs = %u\nlow = %d\nhigh = %d\n", r->layer.layer, r->layer.inputs, r->layer.outputs,
        r->layer.low, r->layer.high);
    say_ints("bias", &r->bias, shape);
    say_ints("multiplier", &r->multiplier, shape);
    say_ints("shift", &r->shift, shape);
    for (uint32_t i = 0; i < r->layer.tiles; i++) {
        layer_tile_read(&body, &t);
        snprintf(name, sizeof name, "tiles.%u.address", i);
        snprintf(shape, sizeof shape, "%u", t.address.outputs);
        say_tile(name, &t.address);
        say("tiles.%u.first_input = %u\ntiles.%u.first_output = %u\n", i, t.fixed.first_input, i, t.fixed.first_output);
        say("tiles.%u.multiplier = %d\ntiles.%u.shift = %u\n", i, t.fixed.multiplier, i, t.fixed.shift);
        snprintf(name, sizeof name, "tiles.%u.gain", i);
        say_ints(name, &t.gain, shape);
        snprintf(name, sizeof name, "tiles.%u.offset", i);
        say_ints(name, &t.offset, shape);
        snprintf(name, sizeof name, "tiles.%u.input_gain", i);
        say_ints(name, &t.input_gain, shape);
        if (t.fixed.reads > 1) say("tiles.%u.reads = %u\n", i, t.fixed.reads);
    }
}

static void say_hex(const uint8_t *data, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) say("%02x", data[i]);
    say("\n");
}

static void say_request(const uint8_t *data, uint32_t size) {
    struct request r;
    char shape[64];
    const enum read_outcome outcome = request_read(data, size, &r);
    if (outcome != READ_WELL) {
        say(outcome == READ_UNKNOWN ? "unknown\n" : "malformed\n");
        return;
    }
    say("op = %u\nrequest_id = %u\n", r.op, r.id);
    snprintf(shape, sizeof shape, "%u %u", r.cells.rows, r.cells.columns);
    switch (r.op) {
    case OP_WAIT: say("duration_ns = %" PRIu64 "\n", r.wait.duration_ns); break;
    case OP_HOLD_PROGRAM:
        say("digest = ");
        say_hex(r.digest, DIGEST_BYTES);
        break;
    case OP_PROGRAM_TILE:
        say_cells(&r.cells);
        say("unit_ns = %u\ntolerance = %u\nmax_pulses = %u\nverify_reads = %u\n", r.program.unit_ns, r.program.tolerance,
            r.program.max_pulses, r.program.verify_reads);
        say("set_start_mv = %u\nset_step_mv = %u\nset_stop_mv = %u\n", r.program.set_start_mv, r.program.set_step_mv,
            r.program.set_stop_mv);
        say("reset_start_mv = %u\nreset_step_mv = %u\nreset_stop_mv = %u\n", r.program.reset_start_mv,
            r.program.reset_step_mv, r.program.reset_stop_mv);
        say("pulse_width_ns = %u\nsample = %" PRIu64 "\n", r.program.pulse_width_ns, r.program.sample);
        say_ints("targets", &r.values, shape);
        break;
    case OP_PULSE:
        say_cells(&r.cells);
        say("polarity = %u\nwidth_ns = %u\nsample = %" PRIu64 "\n", r.pulse.polarity, r.pulse.width_ns, r.pulse.sample);
        say_ints("millivolts", &r.values, shape);
        break;
    case OP_READ_CELLS:
        say_cells(&r.cells);
        say("unit_ns = %u\nreads = %u\nsample = %" PRIu64 "\n", r.read.unit_ns, r.read.reads, r.read.sample);
        break;
    case OP_MVM:
        say_compute(&r);
        say("sample = %" PRIu64 "\nvectors_per_sample = %u\nfirst_vector = %u\n", r.compute.sample,
            r.mvm.vectors_per_sample, r.mvm.first_vector);
        snprintf(shape, sizeof shape, "%u %u", r.mvm.vectors, r.mvm.rows);
        say_ints("codes", &r.values, shape);
        if (r.compute.reads > 1) say("reads = %u\n", r.compute.reads);
        break;
    case OP_SWEEP:
        say_compute(&r);
        say("window.channels = %u\nwindow.height = %u\nwindow.width = %u\n", r.sweep.channels, r.sweep.height, r.sweep.width);
        say("window.kernel = %u %u\nwindow.stride = %u %u\n", r.sweep.kernel_y, r.sweep.kernel_x, r.sweep.stride_y,
            r.sweep.stride_x);
        say("window.padding = %u %u\nwindow.dilation = %u %u\n", r.sweep.padding_y, r.sweep.padding_x, r.sweep.dilation_y,
            r.sweep.dilation_x);
        say("row_skip = %u\nsample = %" PRIu64 "\n", r.sweep.row_skip, r.compute.sample);
        snprintf(shape, sizeof shape, "%u %u %u %u", r.sweep.images, r.sweep.channels, r.sweep.height, r.sweep.width);
        say_ints("codes", &r.values, shape);
        if (r.compute.reads > 1) say("reads = %u\n", r.compute.reads);
        break;
    case OP_LOAD_LAYER: say_layer(&r); break;
    case OP_LOAD_PLAN:
        say("total = %u\noffset = %u\n", r.load_plan.total, r.load_plan.offset);
        snprintf(shape, sizeof shape, "%u", r.load_plan.count);
        say_ints("words", &r.values, shape);
        break;
    case OP_RUN_PLAN:
        say("passes = %u\nsample = %" PRIu64 "\npass_step = %" PRIu64 "\n", r.run_plan.passes, r.run_plan.sample,
            r.run_plan.pass_step);
        snprintf(shape, sizeof shape, "%u %u %u %u", r.run_plan.images, r.run_plan.height, r.run_plan.width, r.run_plan.channels);
        say_ints("pixels", &r.values, shape);
        break;
    case OP_AUTHORISE:
        say("level = %u\nproof = ", r.authorise.level);
        say_hex(r.proof, PROOF_BYTES);
        break;
    case OP_IMAGE_CHUNK:
        say("offset = %u\ndata = ", r.length);
        say_hex(r.values.data, r.values.count);
        break;
    case OP_IMAGE_BEGIN:
    case OP_IMAGE_COMMIT:
    case OP_IMAGE_TILE:
        say("digest = ");
        say_hex(r.digest, DIGEST_BYTES);
        if (r.op != OP_IMAGE_COMMIT) say("%s = %u\n", r.op == OP_IMAGE_BEGIN ? "size" : "offset", r.length);
        break;
    default: break;
    }
}

/* --- replies of the golden files, built with the firmware's own writers ------------------------------------- */

#define ID 0x1234
#define TIME 0x0102030405060708u

static struct reply started(uint8_t op) {
    struct reply reply = {out, ROOM, 0};
    reply_begin(&reply, op, ID, TIME);
    return reply;
}

static void put_readings(struct reply *reply, uint32_t unit, uint16_t rows, uint16_t columns, const uint16_t *counts) {
    const struct wire_readings fixed = {unit, rows, columns};
    wire_put_readings(reply_room(reply, WIRE_READINGS_SIZE), &fixed);
    for (uint32_t i = 0; i < (uint32_t)rows * columns; i++) put_u16(reply_room(reply, 2), counts[i]);
}

static void put_ints(struct reply *reply, uint32_t width, uint32_t count, const int32_t *values) {
    uint8_t *at = reply_ints(reply, count, width);
    for (uint32_t i = 0; i < count; i++) {
        if (width == 2) put_u16(at + 2 * i, (uint16_t)values[i]);
        else put_i32(at + 4 * i, values[i]);
    }
    reply_pack_ints(reply, count, width);
}

static struct reply result(uint8_t returns, uint32_t saturated, uint32_t conversions, const uint32_t *lengths,
                           const int32_t *values) {
    struct reply reply = started(OP_MVM_RESULT);
    const uint8_t axes = returns == RETURNS_RAW ? 3 : 2;
    const struct wire_mvm_result fixed = {returns, axes, saturated, conversions};
    uint32_t count = 1;
    wire_put_mvm_result(reply_room(&reply, WIRE_MVM_RESULT_SIZE), &fixed);
    for (uint32_t i = 0; i < axes; i++) {
        put_u32(reply_room(&reply, 4), lengths[i]);
        count *= lengths[i];
    }
    put_ints(&reply, returns == RETURNS_RAW ? 2 : 4, count, values);
    return reply;
}

static struct reply sample_reply(const char *name) {
    struct reply reply = {out, ROOM, 0};
    if (!strcmp(name, "hello_reply")) {
        const struct wire_hello_reply m = {0x0100, 512, 0xCAFEF00D, 1 << 20, CAN_PROGRAM_TILE | CAN_SUMS | CAN_WAIT, 1, 16};
        reply = started(OP_HELLO_REPLY);
        wire_put_hello_reply(reply_room(&reply, WIRE_HELLO_REPLY_SIZE), &m);
    } else if (!strcmp(name, "hello_reject")) {
        const struct wire_hello_reject m = {0x0200, 0x0203};
        reply = started(OP_HELLO_REJECT);
        wire_put_hello_reject(reply_room(&reply, WIRE_HELLO_REJECT_SIZE), &m);
    } else if (!strcmp(name, "description")) {
        const struct wire_description m = {64, 128, 256};
        reply = started(OP_DESCRIPTION);
        wire_put_description(reply_room(&reply, WIRE_DESCRIPTION_SIZE), &m);
        for (uint32_t i = 0; i < 64; i++) put_u8(reply_room(&reply, 1), (uint8_t)i);
        const char *texts[] = {"lab-128", "A", "chip \xC2\xB5" "7", "1.0", "emulated"};
        for (uint32_t i = 0; i < 5; i++) reply_text(&reply, texts[i]);
    } else if (!strcmp(name, "status_reply")) {
        const struct wire_status m = {25.5, 1, 16384, 300000};
        reply = started(OP_STATUS_REPLY);
        wire_put_status(reply_room(&reply, WIRE_STATUS_SIZE), &m);
    } else if (!strcmp(name, "done")) {
        reply = started(OP_DONE);
    } else if (!strcmp(name, "progress")) {
        const struct wire_progress m = {120, 4096, 3};
        reply = started(OP_PROGRESS);
        wire_put_progress(reply_room(&reply, WIRE_PROGRESS_SIZE), &m);
    } else if (!strcmp(name, "tile_programmed")) {
        const uint16_t counts[] = {200, 2914, 0, 3999, 5, 1};
        const int32_t pulses[] = {1, 9, 0, 300, 2, 1};
        reply = started(OP_TILE_PROGRAMMED);
        put_readings(&reply, 10, 2, 3, counts);
        put_ints(&reply, 4, 6, pulses);
        put_u8(reply_room(&reply, 1), 0x2B); /* reached: 1 1 0, 1 0 1 */
    } else if (!strcmp(name, "cell_readings")) {
        const uint16_t counts[] = {200, 65534};
        reply = started(OP_CELL_READINGS);
        put_readings(&reply, 10, 1, 2, counts);
    } else if (!strcmp(name, "mvm_result_u8")) {
        reply = result(RETURNS_LAYER, 0, 6, (uint32_t[]){1, 3}, (int32_t[]){0, 255, 3});
    } else if (!strcmp(name, "mvm_result_i16")) {
        reply = result(RETURNS_SUMS, 1, 64, (uint32_t[]){2, 2}, (int32_t[]){-300, 20, 0, 7});
    } else if (!strcmp(name, "mvm_result_i32")) {
        reply = result(RETURNS_SUMS, 0, 64, (uint32_t[]){1, 2}, (int32_t[]){-70000, 70000});
    } else if (!strcmp(name, "mvm_result_raw")) {
        reply = result(RETURNS_RAW, 2, 8, (uint32_t[]){1, 2, 2}, (int32_t[]){1, -2, 127, -128});
    } else if (!strcmp(name, "plan_result")) {
        const struct wire_plan_result m = {1, 2, 2, 2};
        const int32_t values[] = {1, -2, 300, 4};
        reply = started(OP_PLAN_RESULT);
        wire_put_plan_result(reply_room(&reply, WIRE_PLAN_RESULT_SIZE), &m);
        reply_counts(&reply, (uint32_t[]){1, 0}, 2);
        reply_counts(&reply, (uint32_t[]){70000, 6}, 2);
        uint8_t *at = reply_ints(&reply, 4, 4);
        for (uint32_t i = 0; i < 4; i++) put_i32(at + 4 * i, values[i]);
        reply_pack_ints(&reply, 4, 4);
    } else if (!strcmp(name, "challenged")) {
        const struct wire_challenged m = {(uint64_t)1 << 40, LEVEL_RUN, 5};
        reply = started(OP_CHALLENGED);
        for (uint32_t i = 0; i < NONCE_BYTES; i++) put_u8(reply_room(&reply, 1), (uint8_t)i);
        wire_put_challenged(reply_room(&reply, WIRE_CHALLENGED_SIZE), &m);
    } else if (!strncmp(name, "image_state", 11)) {
        const bool none = name[11];
        const struct wire_image_state m = {none ? 0 : 10000, 1 << 20, 0};
        reply = started(OP_IMAGE_STATE);
        for (uint32_t i = 0; i < DIGEST_BYTES; i++) put_u8(reply_room(&reply, 1), none ? 0 : (uint8_t)i);
        wire_put_image_state(reply_room(&reply, WIRE_IMAGE_STATE_SIZE), &m);
        if (!none) put_u16(reply_room(&reply, 2), 0x0207);
    } else if (!strcmp(name, "journal_state")) {
        const struct wire_journal_state m = {16, 2};
        const struct wire_journal_entry entries[2] = {{0xDEADBEEF, 7, OP_IMAGE_TILE}, {0xDEADBEEF, 8, OP_WAIT}};
        reply = started(OP_JOURNAL_STATE);
        wire_put_journal_state(reply_room(&reply, WIRE_JOURNAL_STATE_SIZE), &m);
        for (uint32_t i = 0; i < 2; i++) wire_put_journal_entry(reply_room(&reply, WIRE_JOURNAL_ENTRY_SIZE), &entries[i]);
    } else if (!strcmp(name, "error")) {
        reply_begin(&reply, OP_ERROR, ID, TIME); /* numbers that are not whole: what the firmware says is in mV */
        wire_put_error(reply_room(&reply, WIRE_ERROR_SIZE), &(struct wire_error){ERROR_LIMIT, 3.5, 3.0});
        reply_text(&reply, "SET voltage");
    }
    return reply;
}

/* --- frames -------------------------------------------------------------------------------------------------- */

static void say_frames(const uint8_t *data, uint32_t size) {
    static struct frame_reader reader;
    struct link_counters counters = {0};
    struct frame f;
    for (uint32_t i = 0; i < size; i++) {
        if (!frame_feed(&reader, data[i], &counters, &f)) continue;
        say("flags = %u\nchannel = %u\nsession = %u\nsequence = %u\nack = %u\nselective = %u\npayload = ", f.flags, f.channel,
            f.session, f.sequence, f.ack, f.selective);
        for (uint32_t k = 0; k < f.length; k++) say("%02x", f.payload[k]);
        say("\nmajor = 1\n");
    }
}

/* flags, channel, session, sequence, ack, selective as a frame header has them, then the payload. */
static void encode_frame(const uint8_t *data, uint32_t size) {
    struct wire_frame h;
    wire_get_frame(data, &h);
    const struct frame f = {h.version_flags & 15, h.channel, h.session, h.sequence, h.ack, h.selective,
                            data + WIRE_FRAME_SIZE, (uint16_t)(size - WIRE_FRAME_SIZE)};
    out_size = frame_encode(&f, out);
}

/* --- fuzz: `count` damaged copies of a message through the parser, every array touched ------------------------- */

static uint32_t touched;

static void touch(const struct wire_ints *ints) {
    if (ints->count) touched += (uint32_t)(ints_get(ints, 0) + ints_get(ints, ints->count - 1));
}

static void touch_request(const struct request *r) {
    struct body body = r->layer_tiles;
    struct layer_tile tile;
    touch(&r->values);
    touch(&r->bias);
    touch(&r->multiplier);
    touch(&r->shift);
    for (uint32_t i = 0; i < r->layer.tiles; i++) {
        layer_tile_read(&body, &tile);
        touch(&tile.gain);
        touch(&tile.offset);
        touch(&tile.input_gain);
    }
    for (uint32_t i = 0; r->digest && i < DIGEST_BYTES; i++) touched += r->digest[i];
}

static void fuzz(uint64_t count, const uint8_t *message, uint32_t size) {
    const struct chance all = chance_root(size);
    uint32_t outcomes[3] = {0};
    for (uint64_t n = 0; n < count; n++) {
        const struct chance now = chance_at(all, (uint32_t)n);
        const uint32_t length = (uint32_t)(chance_uniform(now, 0) * 1.2f * (float)(size + 4));
        uint8_t *copy = malloc(length ? length : 1); /* of its own, so that a byte too far is seen */
        for (uint32_t i = 0; i < length; i++) copy[i] = i < size ? message[i] : (uint8_t)(chance_uniform(now, i) * 256.0f);
        for (uint32_t i = 1; i <= (uint32_t)(chance_uniform(now, 1) * 4.0f) && length; i++) {
            copy[(uint32_t)(chance_uniform(now, 10 * i) * (float)length) % length] = (uint8_t)(chance_uniform(now, 11 * i) * 256.0f);
        }
        struct request request;
        const enum read_outcome outcome = request_read(copy, length, &request);
        if (outcome == READ_WELL) touch_request(&request);
        outcomes[outcome]++;
        free(copy);
    }
    say("%u %u %u", outcomes[READ_WELL], outcomes[READ_MALFORMED], outcomes[READ_UNKNOWN]);
}

/* --- digital operations: a name and numbers in, numbers out ---------------------------------------------------- */

static char *numbers;
static int64_t next(void) { return strtoll(numbers, &numbers, 10); }
static struct rescale next_rule(void) {
    struct rescale r;
    r.multiplier = (int32_t)next();
    r.shift = (int32_t)next();
    r.low = (int32_t)next();
    r.high = (int32_t)next();
    return r;
}

static void pool(bool average) {
    static int16_t codes[4096], pooled[4096];
    const struct rescale rule = next_rule();
    struct pool p;
    p.height = (uint32_t)next();
    p.width = (uint32_t)next();
    for (uint32_t i = 0; i < 2; i++) p.kernel[i] = (uint32_t)next();
    for (uint32_t i = 0; i < 2; i++) p.stride[i] = (uint32_t)next();
    for (uint32_t i = 0; i < 2; i++) p.padding[i] = (uint32_t)next();
    for (uint32_t i = 0; i < p.height * p.width; i++) codes[i] = (int16_t)next();
    if (average) digital_average_pool(codes, &p, &rule, pooled);
    else digital_max_pool(codes, &p, pooled);
    const uint32_t down = (p.height + 2 * p.padding[0] - p.kernel[0]) / p.stride[0] + 1;
    const uint32_t across = (p.width + 2 * p.padding[1] - p.kernel[1]) / p.stride[1] + 1;
    for (uint32_t i = 0; i < down * across; i++) say("%d ", pooled[i]);
}

static void operate(char *text) {
    char *end = strchr(text, ' ');
    numbers = end;
    *end = 0;
    numbers++;
    if (!strcmp(text, "max_pool") || !strcmp(text, "avg_pool")) {
        pool(text[0] == 'a');
    } else if (!strcmp(text, "correct")) {
        const int32_t sum = (int32_t)next();
        const int64_t inputs = next();
        const int32_t gain = (int32_t)next();
        const int64_t offset = next();
        const int32_t input_gain = (int32_t)next();
        say("%d", digital_correct(sum, inputs, gain, offset, input_gain, (uint32_t)next()));
    } else if (!strcmp(text, "add")) {
        const struct rescale terms[2] = {next_rule(), next_rule()}, rule = next_rule();
        const int32_t first = (int32_t)next();
        say("%d", digital_add(first, (int32_t)next(), terms, &rule));
    } else {
        const struct rescale rule = next_rule();
        const int32_t value = (int32_t)next();
        if (!strcmp(text, "finish")) say("%d", digital_finish(value, (int32_t)next(), &rule));
        else say("%d", digital_requantise(value, &rule));
    }
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

static void transmit(uint64_t now_us) {
    for (uint32_t size = 1; size && ROOM - out_size > FRAME_ENCODED; out_size += size) size = server_transmit(now_us, out + out_size);
}

/* SHA-256 of all bytes, or HMAC-SHA256 of those after a key. */
static void say_hash(const uint8_t *data, uint32_t size, bool keyed) {
    out_size = 32;
    if (keyed) {
        struct hmac h;
        hmac_start(&h, data);
        hmac_add(&h, data + KEY_BYTES, size - KEY_BYTES);
        hmac_end(&h, out);
    } else {
        struct sha256 s;
        sha256_start(&s);
        sha256_add(&s, data, size);
        sha256_end(&s, out);
    }
}

/* Writes a record after others, the supply failing after every number of bytes; says how often the newest record
 * afterwards was the one before, the new one, or anything else. */
static void tear(const uint8_t *record, uint32_t size, uint8_t count) {
    uint32_t outcomes[3] = {0};
    static const uint8_t OLD[] = "the record before";
    for (volatile uint32_t cut = 0; cut <= WIRE_SLOT_SIZE + size; cut++) {
        struct slot_ring ring;
        uint32_t found_size;
        memset(kept, 0xFF, sizeof kept);
        bytes_left = UINT64_MAX;
        slots_open(&ring, 0, count, WIRE_SLOT_SIZE + size);
        for (uint32_t i = 0; i < 2u * count + 1u; i++) slots_add(&ring, OLD, 4, OLD + 4, sizeof OLD - 4);
        bytes_left = cut;
        if (!setjmp(power_lost)) slots_add(&ring, record, size / 2, record + size / 2, size - size / 2);
        bytes_left = UINT64_MAX;
        slots_open(&ring, 0, count, WIRE_SLOT_SIZE + size);
        const uint8_t *found = ring.held ? slots_record(&ring, ring.held - 1u, &found_size) : NULL;
        if (found && found_size == sizeof OLD && !memcmp(found, OLD, sizeof OLD)) outcomes[0]++;
        else if (found && found_size == size && !memcmp(found, record, size)) outcomes[1]++;
        else outcomes[2]++;
    }
    say("%u %u %u", outcomes[0], outcomes[1], outcomes[2]);
}

static void set_key(const uint8_t *data, uint32_t size) {
    has_key = size == KEY_BYTES;
    if (has_key) memcpy(key, data, KEY_BYTES);
}

static void say_deadline(uint64_t now_us) {
    put_u64(out, server_deadline(now_us));
    out[8] = server_busy();
    out_size = 9;
}

static void say_counters(void) {
    const struct link_counters *c = server_counters();
    say("duplicates = %u\nretransmissions = %u\nfast_retransmissions = %u\nbad_crc = %u\nout_of_window = %u\nmessages_received = %u\n",
        c->duplicates, c->retransmissions, c->fast_retransmissions, c->bad_crc, c->out_of_window, c->messages_received);
}

int main(int count, char **words) {
    static const struct chip_identity IDENTITY = {"bench", "bench", "emulated"};
    uint8_t head[13];
    die_seed(count > 1 ? strtoull(words[1], NULL, 10) : 0);
    for (int i = 2; i + 1 < count; i += 2) die_set(words[i], strtof(words[i + 1], NULL));
    uint32_t boots = 0xB007;
    server_start(chip_start(&IDENTITY), boots, 1);
    while (fread(head, sizeof head, 1, stdin) == 1) {
        const uint64_t now_us = get_u64(head + 1);
        const uint32_t size = get_u32(head + 9);
        if (size >= ROOM || (size && fread(in, size, 1, stdin) != 1)) return 1;
        in[size] = 0;
        out_size = 0;
        if (head[0] != 'V') clock_us = now_us;
        if (setjmp(power_lost)) dead = true;
        else switch (dead && head[0] != 'B' ? '-' : head[0]) {
        case '-': break; /* no power */
        case 'P': bytes_left = now_us; break;
        case 'L': put_u64(out, bytes_left), out_size = 8; break;
        case 'K': set_key(in, size); break;
        case 'W': memcpy(kept, in, size); break;
        case 'Y': tear(in, size, (uint8_t)now_us); break;
        case 'H': say_hash(in, size, false); break;
        case 'I': say_hash(in, size, true); break;
        case 'B':
            dead = false;
            bytes_left = UINT64_MAX;
            server_start(chip_start(&IDENTITY), ++boots, 4);
            break;
        case 'R': server_receive(in, size, now_us); break;
        case 'T': transmit(now_us); break;
        case 'U': out[0] = die_outputs_on, out_size = 1; break;
        case 'V': put_u64(out, clock_us), out_size = 8; break;
        case 'Q': say_deadline(now_us); break;
        case 'C': say_counters(); break;
        case 'M': say_request(in, size); break;
        case 'S': out_size = sample_reply((char *)in).size; break;
        case 'F': say_frames(in, size); break;
        case 'E': encode_frame(in, size); break;
        case 'O': operate((char *)in); break;
        case 'Z': fuzz(now_us, in, size); break;
        default: return 2;
        }
        uint8_t length[4];
        put_u32(length, out_size);
        fwrite(length, 4, 1, stdout);
        fwrite(out, out_size, 1, stdout);
        fflush(stdout);
    }
    return 0;
}
