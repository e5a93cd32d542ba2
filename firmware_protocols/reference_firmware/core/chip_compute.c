/* Products: vectors through a tile or through a loaded layer, one input bit a read, shift-added. */
#include "chip.h"
#include "digital.h"

#pragma GCC optimize("Os") /* small before fast */

/* How a part of a plan takes its codes; a request takes them as they come. */
struct placing {
    const int32_t *order; /* the channel of each of the layer's, NULL: as they come */
    uint32_t top, left;   /* the first window of the part */
    int32_t raised;       /* added to every code, padding too */
};

/* What follows from a compute request once. */
static struct {
    struct request layer; /* with RETURNS_LAYER */
    uint32_t vectors, width;       /* of each vector, in codes */
    uint32_t per_sample, first;    /* vector j is number first + j */
    uint32_t outputs, planes, down, across;
    uint32_t conversions, saturated;
    uint32_t skip; /* leading codes of a vector that its tile does not see */
    uint64_t steps; /* planes of all reads of all vectors */
    uint64_t lasts_ns;
    struct placing placing;
} now;

/* Where it stands: in which plane of which read of which tile of which vector. */
static struct {
    uint32_t vector, tile, again, plane;
    struct body tiles;            /* of the loaded layer, behind this one */
    struct layer_tile layer_tile; /* this one */
} at;

static int16_t driven[CHIP_ROWS];      /* codes on the rows of this tile */
static int32_t found[CHIP_OUTPUTS];    /* of this read, of all its planes so far */
static int32_t sums[CHIP_OUTPUTS];     /* of this tile, of all its reads so far */
static int64_t totals[LAYER_OUTPUTS];  /* of this vector, of all its tiles so far */
static int16_t converted[CHIP_CONVERSIONS(CHIP_OUTPUTS)];

/* --- checks ---------------------------------------------------------------------------------------- */

static enum work check_drive(struct job *job, const struct request *r) {
    const uint32_t bits = r->compute.input_bits;
    const bool has_sign = r->compute.flags & COMPUTE_SIGNED;
    if (r->compute.range_code >= CHIP_ADC_RANGES) {
        return refuse(job, ERROR_OUT_OF_RANGE, "no such ADC range", r->compute.range_code, CHIP_ADC_RANGES - 1);
    }
    if (bits < 1 || bits > CHIP_INPUT_BITS) return refuse(job, ERROR_OUT_OF_RANGE, "input bits", bits, CHIP_INPUT_BITS);
    if (has_sign && !CHIP_SIGNED_PLANE) return refuse(job, ERROR_OUT_OF_RANGE, "this chip takes no signed inputs", 0, 0);
    const int64_t low = has_sign ? -(1 << (bits - 1)) : 0, high = has_sign ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
    for (uint32_t i = 0; i < r->values.count; i++) {
        const int64_t code = ints_get(&r->values, i) + now.placing.raised;
        if (code < low || code > high) {
            return refuse(job, ERROR_OUT_OF_RANGE, "an input code does not fit its bits", code, high);
        }
    }
    return WORK_DONE;
}

/* Chip time of one vector on one tile: planes one after the other, converters side by side. */
static uint64_t tile_ns(uint32_t outputs) {
    const uint32_t conversions = CHIP_CONVERSIONS(outputs);
    const uint32_t serial = conversions < CHIP_ADC_SHARED ? conversions : CHIP_ADC_SHARED;
    return (uint64_t)now.planes * (CHIP_ROW_SETUP_NS + CHIP_INPUT_CYCLE_NS + serial * CHIP_CONVERSION_NS);
}

/* Tiles of one macro work one after the other, macros side by side. */
static uint64_t layer_ns(void) {
    uint64_t longest = 0;
    now.steps = 0;
    for (uint32_t macro = 0; macro < CHIP_MACROS; macro++) {
        struct body body = now.layer.layer_tiles;
        struct layer_tile tile;
        uint64_t spent = 0;
        for (uint32_t i = 0; i < now.layer.layer.tiles; i++) {
            layer_tile_read(&body, &tile);
            if (tile.address.macro != macro) continue;
            spent += tile.fixed.reads * tile_ns(tile.address.outputs);
            now.steps += tile.fixed.reads;
        }
        if (spent > longest) longest = spent;
    }
    return longest;
}

static enum work begin(struct job *job) {
    const struct request *r = job->request;
    const bool sweep = r->op == OP_SWEEP, layer = r->compute.returns == RETURNS_LAYER;
    memset(&now, 0, sizeof now);
    memset(&at, 0, sizeof at);
    if (check_drive(job, r) != WORK_DONE) return WORK_REFUSED;
    now.planes = r->compute.input_bits;
    if (sweep) {
        const struct wire_sweep *s = &r->sweep;
        now.down = window_steps(s->height, s->padding_y, s->kernel_y, s->stride_y, s->dilation_y);
        now.across = window_steps(s->width, s->padding_x, s->kernel_x, s->stride_x, s->dilation_x);
        now.per_sample = now.down * now.across;
        now.vectors = s->images * now.per_sample;
        now.width = s->channels * s->kernel_y * s->kernel_x;
    } else {
        now.per_sample = r->mvm.vectors_per_sample;
        now.first = r->mvm.first_vector;
        now.vectors = r->mvm.vectors;
        now.width = r->mvm.rows;
    }
    if (layer) {
        if (!layers_find(r->compute.layer, &now.layer)) {
            return refuse(job, ERROR_NO_SUCH_LAYER, "the layer is not loaded", r->compute.layer, 0);
        }
        if (now.width != now.layer.layer.inputs) {
            return refuse(job, ERROR_MALFORMED, "codes of a vector for the layer", now.width, now.layer.layer.inputs);
        }
        now.outputs = now.layer.layer.outputs;
        now.lasts_ns = layer_ns();
    } else {
        if (check_tile(job, &r->tile) != WORK_DONE) return WORK_REFUSED;
        now.skip = sweep ? r->sweep.row_skip : 0;
        if (sweep && (now.skip > now.width || now.width - now.skip < r->tile.rows)) {
            return refuse(job, ERROR_OUT_OF_RANGE, "rows beyond the window", (int64_t)now.skip + r->tile.rows, now.width);
        }
        if (!sweep && now.width != r->tile.rows) {
            return refuse(job, ERROR_MALFORMED, "codes of a vector for the rows of the tile", now.width, r->tile.rows);
        }
        now.outputs = r->tile.outputs;
        now.lasts_ns = r->compute.reads * tile_ns(now.outputs);
        now.steps = r->compute.reads;
    }
    now.steps *= (uint64_t)now.planes * now.vectors;
    job->progress.total = now.steps < UINT32_MAX ? (uint32_t)now.steps : UINT32_MAX;
    return WORK_DONE;
}

static void begin_reply(struct job *job, uint32_t values, uint32_t width) {
    const struct request *r = job->request;
    const bool raw = r->compute.returns == RETURNS_RAW;
    const struct wire_mvm_result fixed = {r->compute.returns, raw ? 3 : 2, 0, 0};
    reply_begin(job->reply, OP_MVM_RESULT, r->id, 0);
    uint8_t *head = reply_room(job->reply, WIRE_MVM_RESULT_SIZE + (raw ? 3u : 2u) * WIRE_LENGTH_SIZE);
    if (head) {
        wire_put_mvm_result(head, &fixed);
        put_u32(head + WIRE_MVM_RESULT_SIZE, now.vectors);
        if (raw) put_u32(head + WIRE_MVM_RESULT_SIZE + 4, now.planes);
        put_u32(head + WIRE_MVM_RESULT_SIZE + (raw ? 8 : 4), raw ? CHIP_CONVERSIONS(now.outputs) : now.outputs);
    }
    reply_ints(job->reply, values, width);
}

/* --- one tile ---------------------------------------------------------------------------------------- */

static uint32_t ordered(uint32_t channel) { return now.placing.order ? (uint32_t)now.placing.order[channel] : channel; }

/* Code `i` of vector `j`: of the request, or of a window that hangs over its map (padding is code 0). */
static int16_t code_of(const struct request *r, uint32_t j, uint32_t i) {
    if (r->op != OP_SWEEP) return (int16_t)(ints_get(&r->values, j * now.width + ordered(i)) + now.placing.raised);
    const struct wire_sweep *s = &r->sweep;
    const uint32_t place = j % now.per_sample, kernel = (uint32_t)s->kernel_y * s->kernel_x;
    const uint32_t channel = i / kernel, a = i % kernel / s->kernel_x, b = i % s->kernel_x;
    const uint32_t y = (now.placing.top + place / now.across) * s->stride_y + a * s->dilation_y - s->padding_y;
    const uint32_t x = (now.placing.left + place % now.across) * s->stride_x + b * s->dilation_x - s->padding_x;
    if (y >= s->height || x >= s->width) return (int16_t)now.placing.raised; /* below 0 wraps far above */
    const uint32_t map = j / now.per_sample * s->channels + ordered(channel);
    return (int16_t)(ints_get(&r->values, (map * s->height + y) * s->width + x) + now.placing.raised);
}

/* One plane of a read of the tile, driven with `driven`: a call of the macro. True after the last, which adds the read to
 * `sums`; each conversion goes to `raw` if given. */
static bool read_plane(const struct request *r, const struct wire_tile *tile, uint8_t *raw) {
    uint8_t on[CHIP_ROWS];
    const uint32_t number = now.first + at.vector, count = CHIP_CONVERSIONS(tile->outputs), plane = at.plane;
    struct array_read read = {
        .macro = tile->macro,
        .row0 = tile->row0,
        .output0 = tile->output0,
        .outputs = tile->outputs,
        .on = on,
        .range_code = r->compute.range_code,
        .sample = r->compute.sample + number / now.per_sample + ((uint64_t)at.again << READ_STEP_SHIFT),
        .position = number % now.per_sample,
        .plane = plane,
    };
    if (!plane) memset(found, 0, sizeof found);
    for (uint32_t row = 0; row < tile->rows; row++) {
        if ((uint16_t)driven[row] >> plane & 1) on[read.on_count++] = (uint8_t)row;
    }
    macro_convert(&read, converted);
    const bool is_sign = r->compute.flags & COMPUTE_SIGNED && plane + 1 == now.planes;
    const int32_t weight = is_sign ? -(1 << plane) : 1 << plane;
    for (uint32_t i = 0; i < count; i++) {
        if (converted[i] == CHIP_ADC_LOW || converted[i] == CHIP_ADC_HIGH) now.saturated++;
        found[i % tile->outputs] += i < tile->outputs ? weight * converted[i] : -weight * converted[i];
        if (raw) put_u16(raw + 2 * (plane * count + i), (uint16_t)converted[i]);
    }
    now.conversions += count;
    if (++at.plane < now.planes) return false;
    at.plane = 0;
    for (uint32_t o = 0; o < tile->outputs; o++) sums[o] = saturate((int64_t)sums[o] + found[o]);
    return true;
}

/* One plane of a tile for the vector, of `reads` reads, with codes `from` onwards of it; true after the last, which leaves
 * `sums` (and each conversion at `raw` if given). */
static bool run_tile(const struct request *r, const struct wire_tile *tile, uint32_t from, uint32_t reads, uint8_t *raw) {
    if (!at.again && !at.plane) {
        for (uint32_t row = 0; row < tile->rows; row++) driven[row] = code_of(r, at.vector, from + row);
        memset(sums, 0, sizeof sums);
    }
    if (!read_plane(r, tile, raw)) return false;
    if (++at.again < reads) return false;
    at.again = 0;
    return true;
}

/* --- one vector --------------------------------------------------------------------------------------- */

/* A tile's level sums, corrected, times its multiplier: onto the totals of the layer. */
static void add_tile(const struct layer_tile *tile) {
    const int64_t reads = tile->fixed.reads, weight = tile->fixed.multiplier * (now.layer.reads / reads);
    int64_t inputs = 0;
    for (uint32_t row = 0; row < tile->address.rows; row++) inputs += driven[row];
    for (uint32_t o = 0; o < tile->address.outputs; o++) {
        const int32_t level_sum =
            digital_correct(sums[o], reads * inputs, (int32_t)ints_get(&tile->gain, o),
                            (int64_t)((uint64_t)reads * (uint64_t)ints_get(&tile->offset, o)),
                            (int32_t)ints_get(&tile->input_gain, o), tile->fixed.shift);
        /* Unsigned, so that an absurd table wraps instead of being undefined. */
        uint64_t *total = (uint64_t *)&totals[tile->fixed.first_output + o];
        *total += (uint64_t)level_sum * (uint64_t)weight;
    }
}

/* q = requantised(sat(Σ tiles multiplier · level sum + bias)), docs/file-formats.md; of repeated reads the mean counts.
 * One plane of one tile; true after the last, which puts the outputs of the vector at `out`. */
static bool run_layer(const struct request *r, uint8_t *out) {
    struct layer_tile *tile = &at.layer_tile;
    if (!at.tile && !at.again && !at.plane) {
        at.tiles = now.layer.layer_tiles;
        memset(totals, 0, now.outputs * sizeof totals[0]);
    }
    if (!at.again && !at.plane) layer_tile_read(&at.tiles, tile);
    if (!run_tile(r, &tile->address, tile->fixed.first_input, tile->fixed.reads, NULL)) return false;
    add_tile(tile);
    if (++at.tile < now.layer.layer.tiles) return false;
    at.tile = 0;
    for (uint32_t o = 0; o < now.outputs; o++) {
        const struct rescale rule = {
            (int32_t)ints_get(&now.layer.multiplier, o),
            (int32_t)ints_get(&now.layer.shift, o),
            now.layer.layer.low,
            now.layer.layer.high,
        };
        const int32_t sum = saturate(mean_of(totals[o], now.layer.reads));
        put_i32(out + 4 * o, digital_finish(sum, (int32_t)ints_get(&now.layer.bias, o), &rule));
    }
    return true;
}

/* The same for a single tile: its level sums are the outputs. */
static bool run_alone(const struct request *r, uint8_t *out, bool raw) {
    if (!run_tile(r, &r->tile, now.skip, r->compute.reads, raw ? out : NULL)) return false;
    for (uint32_t o = 0; !raw && o < now.outputs; o++) put_i32(out + 4 * o, sums[o]);
    return true;
}

#if PLAN_WORDS
/* --- parts of a plan ---------------------------------------------------------------------------------- */

static struct request part_request; /* as a host would ask for it */

enum work part_begin(struct job *job, const struct layer_part *of) {
    memset(&now, 0, sizeof now);
    memset(&at, 0, sizeof at);
    memset(&part_request, 0, sizeof part_request);
    part_request.op = of->window ? OP_SWEEP : OP_MVM;
    part_request.values = of->codes;
    part_request.compute = (struct wire_compute){
        .returns = RETURNS_LAYER,
        .flags = of->input_signed ? COMPUTE_SIGNED : 0,
        .range_code = of->range_code,
        .input_bits = of->input_bits,
        .layer = of->layer,
        .sample = of->sample,
    };
    now.placing.raised = of->raised;
    if (check_drive(job, &part_request) != WORK_DONE) return WORK_REFUSED;
    if (!layers_find(of->layer, &now.layer)) {
        return refuse(job, ERROR_NO_SUCH_LAYER, "the layer is not loaded", of->layer, 0);
    }
    now.planes = of->input_bits;
    now.placing.order = of->order;
    now.placing.top = of->top;
    now.placing.left = of->left;
    now.down = of->down;
    now.across = of->across;
    now.per_sample = now.vectors = of->down * of->across;
    now.width = of->lengths[0];
    if (of->window) {
        const int32_t *w = of->window;
        part_request.sweep = (struct wire_sweep){
            .channels = of->lengths[0], .height = (uint16_t)of->lengths[1], .width = (uint16_t)of->lengths[2],
            .kernel_y = (uint16_t)w[0], .kernel_x = (uint16_t)w[1], .stride_y = (uint16_t)w[2], .stride_x = (uint16_t)w[3],
            .padding_y = (uint16_t)w[4], .padding_x = (uint16_t)w[5], .dilation_y = (uint16_t)w[6], .dilation_x = (uint16_t)w[7],
        };
        now.width *= (uint32_t)(w[0] * w[1]);
    }
    if (now.width != now.layer.layer.inputs) { /* loaded anew since the plan was checked */
        return refuse(job, ERROR_MALFORMED, "codes of a vector for the layer", now.width, now.layer.layer.inputs);
    }
    now.outputs = now.layer.layer.outputs;
    now.lasts_ns = layer_ns();
    return WORK_DONE;
}

bool part_step(uint8_t *out) {
    if (!run_layer(&part_request, out)) return false;
    macro_spend_ns(now.lasts_ns);
    at.vector++;
    return true;
}

uint32_t part_outputs(void) { return now.outputs; }

void part_count(uint32_t *saturated, uint32_t *conversions) {
    *saturated = now.saturated > UINT32_MAX - *saturated ? UINT32_MAX : *saturated + now.saturated;
    *conversions = now.conversions > UINT32_MAX - *conversions ? UINT32_MAX : *conversions + now.conversions;
}

#endif

enum work chip_compute(struct job *job) {
    const struct request *r = job->request;
    const bool raw = r->compute.returns == RETURNS_RAW;
    if (!job->step && begin(job) != WORK_DONE) return WORK_REFUSED;
    const uint32_t a_vector = raw ? now.planes * CHIP_CONVERSIONS(now.outputs) : now.outputs, width = raw ? 2 : 4;
    if (!job->step) begin_reply(job, now.vectors > MAX_MESSAGE ? UINT32_MAX : now.vectors * a_vector, width);
    if (job->reply->size > job->reply->room) return WORK_DONE; /* the server refuses it */
    uint8_t *values = job->reply->data + job->reply->size - now.vectors * a_vector * width;
    do {
        uint8_t *out = values + at.vector * a_vector * width;
        job->progress.done = ++job->step;
        if (!(r->compute.returns == RETURNS_LAYER ? run_layer(r, out) : run_alone(r, out, raw))) continue;
        macro_spend_ns(now.lasts_ns);
        at.vector++;
    } while (at.vector < now.vectors && !slice_over());
    if (at.vector < now.vectors) return WORK_MORE;
    uint8_t *fixed = job->reply->data + WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE;
    const struct wire_mvm_result result = {r->compute.returns, raw ? 3 : 2, now.saturated, now.conversions};
    wire_put_mvm_result(fixed, &result);
    reply_pack_ints(job->reply, now.vectors * a_vector, width);
    return WORK_DONE;
}
