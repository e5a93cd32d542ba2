/* The digital steps of a plan, one element of the output at a time (of a norm or softmax: one group), by docs/file-formats.md. */
#include "plan.h"

#if PLAN_WORDS
#pragma GCC optimize("Os") /* small before fast */

static const struct step *step;
static struct value input, second, output;

/* --- places ------------------------------------------------------------------------------------------------ */

/* Where element `index` of a value stands. */
static void places_of(const struct value *value, uint32_t index, uint32_t *places) {
    for (uint32_t axis = value->rank; axis-- > 0; index /= value->lengths[axis]) places[axis] = index % value->lengths[axis];
}

/* The element at some places, the last axes of which are the value's; lengths of 1 are repeated. */
static uint32_t element_at(uint32_t rank, const uint32_t *lengths, const uint32_t *places, uint32_t axes) {
    uint32_t index = 0;
    for (uint32_t axis = 0; axis < rank; axis++) {
        index = index * lengths[axis] + (lengths[axis] == 1 ? 0 : places[axes - rank + axis]);
    }
    return index;
}

static uint32_t index_in(const struct value *value, const uint32_t *places) {
    return element_at(value->rank, value->lengths, places, value->rank);
}

/* --- numbers ----------------------------------------------------------------------------------------------- */

static int32_t by_rule(int64_t value, const struct rule *rule, uint32_t channel) {
    const uint32_t at = rule->multiplier.count == 1 ? 0 : channel;
    const struct rescale one = {rule->multiplier.data[at], rule->shift.data[at], rule->low, rule->high};
    return digital_requantise(saturate(value), &one);
}

static int32_t narrow(uint64_t sum, int32_t shift) { return saturate(round_shift((int64_t)sum, (uint32_t)shift)); }

/* a · b onto a sum that wraps where a plan is absurd, instead of being undefined. */
static uint64_t product(int32_t a, int32_t b) { return (uint64_t)((int64_t)a * b); }

static int32_t tensor_at(const struct tensor *tensor, const uint32_t *places) {
    return tensor->data[element_at(tensor->rank, tensor->lengths, places, output.rank)];
}

/* A code of an input whose lengths of 1 are repeated, by its own rule if there is one. */
static int32_t repeated(const struct value *value, const uint32_t *places, const struct rule *rule) {
    const uint32_t index = element_at(value->rank, value->lengths, places, output.rank);
    const int32_t code = code_get(value, index);
    return rule ? by_rule(code, rule, index / (value->size / value->lengths[0])) : code;
}

/* --- elements ---------------------------------------------------------------------------------------------- */

static int32_t joined(uint32_t *places) {
    struct words rules = step->arguments;
    const uint32_t axis = (uint32_t)step->numbers[0];
    for (uint32_t i = 0;; i++) {
        const struct value part = plan_value(step->input[i]);
        const struct rule rule = words_rule(&rules);
        if (places[axis] >= part.lengths[axis] && i + 1 < step->inputs) {
            places[axis] -= part.lengths[axis];
            continue;
        }
        return by_rule(code_get(&part, index_in(&part, places)), &rule, places[0]);
    }
}

/* Largest code, or sum, under the window of an element. */
static int32_t pooled(uint32_t unit) {
    const int32_t *w = step->lists[0].data;
    const uint32_t height = input.lengths[1], width = input.lengths[2];
    const uint32_t across = window_steps(width, (uint32_t)w[5], (uint32_t)w[1], (uint32_t)w[3], 1);
    const uint32_t down = window_steps(height, (uint32_t)w[4], (uint32_t)w[0], (uint32_t)w[2], 1);
    const uint32_t channel = unit / (down * across), y = unit / across % down, x = unit % across;
    const bool mean = step->kind == KIND_AVERAGE_POOL;
    int32_t largest = INT32_MIN;
    uint64_t total = 0;
    for (int32_t a = 0; a < w[0]; a++) {
        for (int32_t b = 0; b < w[1]; b++) {
            const uint32_t row = y * (uint32_t)w[2] + (uint32_t)a - (uint32_t)w[4];
            const uint32_t column = x * (uint32_t)w[3] + (uint32_t)b - (uint32_t)w[5];
            if (row >= height || column >= width) continue; /* below 0 wraps far above */
            const int32_t code = code_get(&input, (channel * height + row) * width + column);
            if (code > largest) largest = code;
            total += (uint64_t)(int64_t)code;
        }
    }
    return mean ? by_rule(saturate((int64_t)total), &step->rules[0], channel) : largest;
}

static int32_t padded(uint32_t *places) {
    for (uint32_t axis = 0; axis < output.rank; axis++) {
        places[axis] -= (uint32_t)step->lists[0].data[axis];
        if (places[axis] >= input.lengths[axis]) return 0; /* below 0 wraps far above */
    }
    return code_get(&input, index_in(&input, places));
}

static int32_t sliced(uint32_t *places) {
    for (uint32_t axis = 0; axis < output.rank; axis++) {
        places[axis] = (uint32_t)step->lists[0].data[axis] + places[axis] * (uint32_t)step->lists[1].data[axis];
    }
    return code_get(&input, index_in(&input, places));
}

static int32_t looked_up(int32_t code) {
    const struct array *entries = &step->lists[0];
    int64_t place = (int64_t)code - step->numbers[0];
    if (place < 0) place = 0;
    if (place >= entries->count) place = entries->count - 1;
    return entries->data[place];
}

static int32_t scaled(uint32_t unit, const uint32_t *places) {
    const int32_t x = code_get(&input, unit);
    const struct tensor *weight = &step->tensors[x < 0 && step->tensors[2].rank ? 2 : 0];
    const uint64_t total = product(x, tensor_at(weight, places)) + (uint64_t)(int64_t)tensor_at(&step->tensors[1], places);
    return by_rule((int64_t)total, &step->rules[0], places[0]);
}

static int32_t matrix_element(uint32_t *places) {
    const uint32_t rank = output.rank, row = places[rank - 2], column = places[rank - 1], inner = input.lengths[input.rank - 1];
    uint64_t total = 0;
    places[rank - 1] = 0;
    const uint32_t a = element_at(input.rank - 2, input.lengths, places, rank - 2) * input.lengths[input.rank - 2] + row;
    const uint32_t b = element_at(second.rank - 2, second.lengths, places, rank - 2) * inner;
    for (uint32_t k = 0; k < inner; k++) {
        total += product(code_get(&input, a * inner + k), code_get(&second, (b + k) * second.lengths[second.rank - 1] + column));
    }
    return by_rule(narrow(total, step->numbers[0]), &step->rules[0], rank > 2 ? places[0] : row);
}

/* Number of codes that lie along some axes of the input. */
static uint32_t group_size(const struct array *axes) {
    uint32_t size = 1;
    for (uint32_t i = 0; i < axes->count; i++) size *= input.lengths[axes->data[i]];
    return size;
}

/* Places of code `n` of a group: along `axes`, in their order. */
static uint32_t member(const struct array *axes, uint32_t n, uint32_t *places) {
    for (uint32_t i = axes->count; i-- > 0; n /= input.lengths[axes->data[i]]) {
        places[axes->data[i]] = n % input.lengths[axes->data[i]];
    }
    return index_in(&input, places);
}

/* Places of the group of number `group` among those of the other axes. */
static void group_places(const struct array *axes, uint32_t group, uint32_t *places) {
    for (uint32_t axis = input.rank; axis-- > 0;) {
        bool along = false;
        for (uint32_t i = 0; i < axes->count; i++) along = along || (uint32_t)axes->data[i] == axis;
        places[axis] = 0;
        if (along) continue;
        places[axis] = group % input.lengths[axis];
        group /= input.lengths[axis];
    }
}

static int32_t reduced(uint32_t unit) {
    const struct array *axes = &step->lists[0];
    const uint32_t n = group_size(axes);
    uint32_t places[AXES_MAX];
    uint64_t total = 0;
    int32_t extreme = 0;
    group_places(axes, unit, places);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t code = code_get(&input, member(axes, i, places));
        total += (uint64_t)(int64_t)code;
        if (!i || (step->numbers[0] ? code < extreme : code > extreme)) extreme = code;
    }
    if (step->kind == KIND_EXTREME) return extreme;
    return by_rule(narrow(total, step->numbers[0]), &step->rules[0], unit / (output.size / output.lengths[0]));
}

static int32_t permuted(const uint32_t *places) {
    uint32_t before[AXES_MAX];
    for (uint32_t axis = 0; axis < output.rank; axis++) before[step->lists[0].data[axis]] = places[axis];
    return code_get(&input, index_in(&input, before));
}

static int32_t taken(uint32_t *places) {
    const uint32_t axis = (uint32_t)step->numbers[0];
    const int32_t index = step->lists[0].data[places[axis]];
    if (index < 0) return step->numbers[1];
    places[axis] = (uint32_t)index;
    return code_get(&input, index_in(&input, places));
}

static int32_t resampled(uint32_t *places) {
    const uint32_t rank = output.rank, height = input.lengths[rank - 2], width = input.lengths[rank - 1];
    const int32_t *rows = step->tensors[0].data + places[rank - 2] * height, *columns = step->tensors[1].data + places[rank - 1] * width;
    const uint32_t channel = places[0];
    uint64_t total = 0;
    places[rank - 2] = places[rank - 1] = 0;
    const uint32_t map = index_in(&input, places);
    for (uint32_t r = 0; r < height; r++) {
        if (!rows[r]) continue;
        uint64_t across = 0;
        for (uint32_t c = 0; c < width; c++) {
            if (columns[c]) across += product(code_get(&input, map + r * width + c), columns[c]);
        }
        total += across * (uint64_t)(int64_t)rows[r];
    }
    return by_rule(narrow(total, step->numbers[0]), &step->rules[0], channel);
}

static int32_t element(uint32_t unit) {
    uint32_t places[AXES_MAX];
    places_of(&output, unit, places);
    const struct rule *rules = step->rules;
    switch (step->kind) {
    case KIND_RESCALE: return by_rule(code_get(&input, unit), &rules[0], places[0]);
    case KIND_ADD: {
        const int64_t first = repeated(&input, places, &rules[0]), other = repeated(&second, places, &rules[1]);
        return by_rule(step->numbers[0] ? first - other : first + other, &rules[2], places[0]);
    }
    case KIND_CONCAT: return joined(places);
    case KIND_MAX_POOL:
    case KIND_AVERAGE_POOL: return pooled(unit);
    case KIND_PAD: return padded(places);
    case KIND_SLICE: return sliced(places);
    case KIND_TABLE: return looked_up(code_get(&input, unit));
    case KIND_AFFINE: return scaled(unit, places);
    case KIND_PRODUCT:
        return by_rule((int64_t)product(repeated(&input, places, NULL), repeated(&second, places, NULL)), &rules[0], places[0]);
    case KIND_MATMUL: return matrix_element(places);
    case KIND_SUM:
    case KIND_EXTREME: return reduced(unit);
    case KIND_PERMUTE: return permuted(places);
    case KIND_TAKE: return taken(places);
    case KIND_RESAMPLE: return resampled(places);
    default: return code_get(&input, unit); /* reshape */
    }
}

/* --- groups ------------------------------------------------------------------------------------------------- */

static uint32_t root_of(uint64_t value) {
    uint64_t root = 0;
    for (int bit = 31; bit >= 0; bit--) {
        const uint64_t more = root | (uint64_t)1 << bit;
        if (more * more <= value) root = more;
    }
    return (uint32_t)root;
}

static void norm(uint32_t group) {
    enum { Z_END = (1 << 15) - 1, ROOT_HIGH = 24, Z_SHIFT = 21 };
    const struct array *axes = &step->lists[0];
    const uint32_t n = group_size(axes), fraction = (uint32_t)step->numbers[1];
    uint32_t places[AXES_MAX];
    uint64_t sum = 0, squares = 0;
    int64_t mean = 0;
    group_places(axes, group, places);
    for (uint32_t i = 0; i < n; i++) sum += (uint64_t)(int64_t)code_get(&input, member(axes, i, places));
    if (step->numbers[0]) {
        const int64_t total = (int64_t)(sum << fraction);
        const uint64_t size = total < 0 ? 0 - (uint64_t)total : (uint64_t)total;
        const int64_t rounded = (int64_t)((2 * size + n) / (2 * (uint64_t)n));
        mean = total < 0 ? -rounded : rounded;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t d = ((uint64_t)(int64_t)code_get(&input, member(axes, i, places)) << fraction) - (uint64_t)mean;
        squares += d * d;
    }
    uint64_t variance = squares / n + ((uint64_t)(uint32_t)step->numbers[2] << step->numbers[3]);
    if (!variance || variance >> 63) variance = 1;
    int bits = -1;
    for (uint64_t rest = variance; rest; rest >>= 1) bits++;
    const int half = ROOT_HIGH - 1 - bits >= 0 ? (ROOT_HIGH - 1 - bits) / 2 : -((bits - ROOT_HIGH + 2) / 2); /* ⌊ ⌋ */
    const uint64_t w = half >= 0 ? variance << 2 * half : variance >> -2 * half;
    const uint32_t root = root_of(((uint64_t)1 << 62) / w);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = member(axes, i, places);
        const int64_t d = (int64_t)(((uint64_t)(int64_t)code_get(&input, at) << fraction) - (uint64_t)mean);
        int64_t z = round_shift((int64_t)((uint64_t)d * root), (uint32_t)(Z_SHIFT - half));
        z = z > Z_END ? Z_END : z < -Z_END ? -Z_END : z;
        const uint64_t total = product((int32_t)z, tensor_at(&step->tensors[0], places)) +
                               (uint64_t)(int64_t)tensor_at(&step->tensors[1], places);
        code_put(&output, at, by_rule((int64_t)total, &step->rules[0], places[0]));
    }
}

static void softmax(uint32_t group) {
    enum { RECIPROCAL_BITS = 46, SHARE_SHIFT = 16 };
    const struct array axis = {step->numbers, 1}, *entries = &step->lists[0];
    const uint32_t n = group_size(&axis);
    uint32_t places[AXES_MAX];
    int32_t largest = INT32_MIN;
    uint64_t total = 0;
    group_places(&axis, group, places);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t code = code_get(&input, member(&axis, i, places));
        if (code > largest) largest = code;
    }
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t at = member(&axis, i, places);
            const uint64_t away = (uint64_t)((int64_t)largest - code_get(&input, at));
            const uint64_t e = away < entries->count ? (uint32_t)entries->data[away] : 0;
            if (!pass) total += e;
            if (!pass) continue;
            const uint64_t share = ((uint64_t)1 << RECIPROCAL_BITS) / total; /* the largest code's entry is above 0 */
            code_put(&output, at, by_rule(round_shift((int64_t)(e * share), SHARE_SHIFT), &step->rules[0], places[0]));
        }
    }
}

void instruction_begin(const struct step *of) {
    step = of;
    output = plan_value(of->output);
    input = plan_value(of->input[0]);
    second = plan_value(of->input[of->inputs > 1 ? 1 : 0]);
}

bool instruction_run(uint32_t unit) {
    if (step->kind != KIND_NORM && step->kind != KIND_SOFTMAX) {
        code_put(&output, unit, element(unit));
        return unit + 1 == output.size;
    }
    const struct array axis = {step->numbers, 1};
    const uint32_t groups = input.size / group_size(step->kind == KIND_NORM ? &step->lists[0] : &axis);
    if (step->kind == KIND_NORM) norm(unit);
    else softmax(unit);
    return unit + 1 == groups;
}

#endif
