/* A plan is loaded, checked, and run on images: step after step, in slices. */
#include "plan.h"

#if PLAN_WORDS

#pragma GCC optimize("Os") /* small before fast */

/* Where a run stands. */
static struct {
    uint32_t pass, image, step, unit, part;
    uint32_t answers; /* offset of the staged answers in the reply */
    struct words words;
    struct step now;
    bool going;           /* a part has begun */
    uint32_t saturated[PLAN_STEPS], conversions[PLAN_STEPS];
} run;

enum { UNITS = 64 }; /* of a digital step between two looks at the time */

static uint8_t outputs[4 * LAYER_OUTPUTS]; /* of one vector */

void plan_forget(void) {
    plan.ready = false;
    plan.have = 0;
}

/* --- loading --------------------------------------------------------------------------------------------------- */

static enum work refuse_plan(struct job *job, const char *text, int64_t value) {
    return refuse(job, ERROR_MALFORMED, text, value, 0);
}

/* Layers of a step that are not loaded are told apart from a step that does not fit. */
static enum work check_layers(struct job *job, const struct step *step) {
    static struct request layer;
    const struct array *parts = &step->lists[3];
    for (uint32_t i = 0; step->kind == KIND_LAYERS && i < parts->count; i += PART_WORDS) {
        const int32_t number = parts->data[i];
        if (number < 0 || number > UINT16_MAX || !layers_find((uint16_t)number, &layer)) {
            return refuse(job, ERROR_NO_SUCH_LAYER, "the plan names a layer that is not loaded", number, 0);
        }
    }
    return WORK_DONE;
}

static enum work check_steps(struct job *job, struct words *words) {
    static uint8_t known[PLAN_VALUES]; /* values that the steps so far have given */
    static struct step step;
    memset(known, 0, sizeof known);
    known[0] = 1;
    for (uint32_t number = 0; number < plan.steps; number++) {
        step_read(words, &step);
        if (words->broken || step.output >= plan.values) return refuse_plan(job, "a step of the plan is none", number);
        for (uint32_t i = 0; i < step.inputs; i++) {
            if (step.input[i] >= plan.values || !known[step.input[i]]) {
                return refuse_plan(job, "a step reads what no step before it gives", number);
            }
        }
        if (check_layers(job, &step) != WORK_DONE) return WORK_REFUSED;
        if (!step_fits(&step)) return refuse_plan(job, "a step does not fit the values around it", number);
        known[step.output] = 1;
        plan.width = plan_value(step.output).size;
    }
    return words->left ? refuse_plan(job, "words behind the last step", words->left) : WORK_DONE;
}

static enum work check(struct job *job) {
    struct words words = {plan.words, plan.have, false};
    int32_t head[PLAN_HEAD]; /* format, arena, channels, height, width, values, steps */
    for (uint32_t i = 0; i < PLAN_HEAD; i++) head[i] = words_take(&words);
    if (words.broken || head[0] != 1 || head[2] < 1 || (uint32_t)head[2] > PLAN_WORDS / PIXEL_VALUES) {
        return refuse_plan(job, "not a plan of format 1", head[0]);
    }
    if (head[1] < 0 || (uint32_t)head[1] > PLAN_MEMORY) return refuse(job, ERROR_LIMIT, "bytes of a plan's values", head[1], PLAN_MEMORY);
    if (head[5] < 1 || head[5] > PLAN_VALUES) return refuse(job, ERROR_LIMIT, "values of a plan", head[5], PLAN_VALUES);
    if (head[6] < 1 || head[6] > PLAN_STEPS) return refuse(job, ERROR_LIMIT, "steps of a plan", head[6], PLAN_STEPS);
    for (int32_t i = 0; i < head[2] * PIXEL_VALUES; i++) {
        const int32_t code = words_take(&words);
        if ((int16_t)code != code) return refuse_plan(job, "a pixel's code beyond 16 bits", code);
    }
    plan.values = (uint32_t)head[5];
    plan.steps = (uint32_t)head[6];
    for (uint32_t i = 0; i < plan.values; i++) {
        plan.value_at[i] = (uint32_t)(words.at - plan.words);
        value_read(&words);
        if (words.broken) return refuse_plan(job, "a value outside the memory of the plan", i);
    }
    const struct value image = plan_value(0);
    if (image.rank != 3 || memcmp(image.lengths, head + 2, 12) ) return refuse_plan(job, "the first value is the image's", 0);
    plan.first_step = (uint32_t)(words.at - plan.words);
    return check_steps(job, &words);
}

enum work plan_load(struct job *job) {
    const struct wire_load_plan *part = &job->request->load_plan;
    if (!part->offset) plan_forget();
    if (part->total > PLAN_WORDS) return refuse(job, ERROR_LIMIT, "words of a plan", part->total, PLAN_WORDS);
    if (plan.ready || part->offset != plan.have) return refuse_plan(job, "parts of a plan come in order", part->offset);
    for (uint32_t i = 0; i < part->count; i++) plan.words[plan.have++] = (int32_t)ints_get(&job->request->values, i);
    if (plan.have < part->total) return WORK_DONE;
    if (check(job) != WORK_DONE) {
        plan_forget();
        return WORK_REFUSED;
    }
    plan.ready = true;
    return WORK_DONE;
}

/* --- running ---------------------------------------------------------------------------------------------------- */

static enum work begin(struct job *job) {
    const struct wire_run_plan *r = &job->request->run_plan;
    const struct value image = plan.ready ? plan_value(0) : (struct value){0};
    memset(&run, 0, sizeof run);
    if (!plan.ready) return refuse(job, ERROR_OUT_OF_RANGE, "no plan is loaded", 0, 0);
    if (r->channels != image.lengths[0] || r->height != image.lengths[1] || r->width != image.lengths[2]) {
        return refuse_plan(job, "images of another shape than the plan's", (int64_t)r->channels * r->height * r->width);
    }
    const uint64_t codes = (uint64_t)r->passes * r->images * plan.width;
    const uint64_t counts = 2u + 8u * (uint64_t)plan.steps;
    if (codes > MAX_MESSAGE / 4 || counts + 4 * codes + 64 > job->reply->room) {
        return refuse(job, ERROR_LIMIT, "the reply is too long; ask for less", (int64_t)codes, MAX_MESSAGE / 4);
    }
    reply_begin(job->reply, OP_PLAN_RESULT, job->request->id, 0);
    reply_room(job->reply, (uint32_t)(WIRE_PLAN_RESULT_SIZE + counts));
    run.answers = job->reply->size + 1; /* behind the item byte */
    reply_ints(job->reply, (uint32_t)codes, 4);
    job->progress.total = r->passes * r->images;
    return WORK_DONE;
}

static void put_image(const struct request *r) {
    const struct value image = plan_value(0);
    const uint32_t places = image.lengths[1] * image.lengths[2], channels = image.lengths[0];
    const uint8_t *pixels = r->values.data + (size_t)run.image * image.size;
    for (uint32_t i = 0; i < image.size; i++) {
        const uint32_t channel = i / places, place = i % places;
        code_put(&image, i, plan.words[PLAN_HEAD + channel * PIXEL_VALUES + pixels[place * channels + channel]]);
    }
    run.words = (struct words){plan.words + plan.first_step, plan.have - plan.first_step, false};
    run.step = 0;
    step_read(&run.words, &run.now);
}

/* One plane of one vector of the part that is under way; true when the step's last part is done. */
static enum work run_layers(struct job *job, bool *ended) {
    const struct wire_run_plan *r = &job->request->run_plan;
    const struct step *step = &run.now;
    const int32_t *part = step->lists[3].data + run.part;
    const struct value input = plan_value(step->input[0]), output = plan_value(step->output);
    if (!run.going) {
        const uint64_t sample = r->sample + run.pass * r->pass_step + run.image + ((uint64_t)step->numbers[4] << TURN_SHIFT);
        const struct wire_ints codes = {codes_at(&input), input.size, (uint8_t)(ITEM_SIGNED | input.item)};
        const struct layer_part of = {
            .layer = (uint16_t)part[0],
            .range_code = (uint8_t)step->numbers[0],
            .input_bits = (uint8_t)step->numbers[1],
            .input_signed = step->numbers[2] != 0,
            .raised = step->numbers[3],
            .sample = sample,
            .codes = codes,
            .lengths = input.lengths,
            .window = step->lists[0].count ? step->lists[0].data : NULL,
            .order = step->lists[1].count ? step->lists[1].data : NULL,
            .top = (uint32_t)part[1],
            .down = (uint32_t)part[2],
            .left = (uint32_t)part[3],
            .across = (uint32_t)part[4],
        };
        if (part_begin(job, &of) != WORK_DONE) return WORK_REFUSED;
        run.going = true;
        run.unit = 0;
    }
    if (part_outputs() != output.lengths[0]) return refuse_plan(job, "outputs of a layer that was loaded anew", part_outputs());
    if (!part_step(outputs)) return WORK_DONE;
    const uint32_t y = (uint32_t)part[1] + run.unit / (uint32_t)part[4], x = (uint32_t)part[3] + run.unit % (uint32_t)part[4];
    const uint32_t places = output.size / output.lengths[0], width = output.rank == 3 ? output.lengths[2] : 1;
    for (uint32_t o = 0; o < output.lengths[0]; o++) {
        const uint32_t channel = step->lists[2].count ? (uint32_t)step->lists[2].data[o] : o;
        code_put(&output, channel * places + y * width + x, get_i32(outputs + 4 * o));
    }
    if (++run.unit < (uint32_t)part[2] * (uint32_t)part[4]) return WORK_DONE;
    part_count(&run.saturated[run.step], &run.conversions[run.step]);
    run.going = false;
    run.unit = 0;
    run.part += PART_WORDS;
    if (run.part < step->lists[3].count) return WORK_DONE;
    run.part = 0;
    *ended = true;
    return WORK_DONE;
}

static void put_answer(const struct job *job) {
    const struct value answer = plan_value(run.now.output);
    const uint32_t images = job->request->run_plan.images;
    uint8_t *at = job->reply->data + run.answers + (size_t)4 * answer.size * (run.pass * images + run.image);
    for (uint32_t i = 0; i < answer.size; i++) put_i32(at + 4 * i, code_get(&answer, i));
}

static enum work finish(struct job *job) {
    const struct wire_run_plan *r = &job->request->run_plan;
    const struct wire_plan_result fixed = {r->passes, r->images, plan.width, plan.steps};
    const uint32_t size = 1 + 4 * r->passes * r->images * plan.width;
    const uint8_t *staged = job->reply->data + run.answers - 1;
    job->reply->size = WIRE_MESSAGE_SIZE + WIRE_CHIP_TIME_SIZE;
    wire_put_plan_result(reply_room(job->reply, WIRE_PLAN_RESULT_SIZE), &fixed);
    reply_counts(job->reply, run.saturated, plan.steps);
    reply_counts(job->reply, run.conversions, plan.steps);
    memmove(reply_room(job->reply, size), staged, size);
    reply_pack_ints(job->reply, (size - 1) / 4, 4);
    return WORK_DONE;
}

/* The next image, or the first of the next pass; false after the last. */
static bool next_image(struct job *job) {
    put_answer(job);
    job->progress.done++;
    if (++run.image < job->request->run_plan.images) return true;
    run.image = 0;
    return ++run.pass < job->request->run_plan.passes;
}

enum work plan_run(struct job *job) {
    if (!job->step) {
        if (begin(job) != WORK_DONE) return WORK_REFUSED;
        put_image(job->request);
        job->step = 1;
    }
    do {
        bool ended = false;
        if (run.now.kind == KIND_LAYERS) {
            if (run_layers(job, &ended) != WORK_DONE) return WORK_REFUSED;
        } else {
            if (!run.unit) instruction_begin(&run.now);
            for (uint32_t i = 0; i < UNITS && !ended; i++) ended = instruction_run(run.unit++);
        }
        if (!ended) continue;
        run.unit = 0;
        if (++run.step < plan.steps) {
            step_read(&run.words, &run.now);
            continue;
        }
        if (!next_image(job)) return finish(job);
        put_image(job->request);
    } while (!slice_over());
    return WORK_MORE;
}

#endif
