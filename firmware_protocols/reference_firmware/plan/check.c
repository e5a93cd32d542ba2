/* What must hold of a step before the first image: its output has the shape that its operation gives, its tables fit, and
 * no index leaves a value. */
#include "plan.h"

#if PLAN_WORDS

#pragma GCC optimize("Os") /* small before fast */

static bool same_shape(const struct value *a, const struct value *b) {
    if (a->rank != b->rank) return false;
    for (uint32_t axis = 0; axis < a->rank; axis++) {
        if (a->lengths[axis] != b->lengths[axis]) return false;
    }
    return true;
}

/* One multiplier and shift for all channels, or one for each; ends that the output's items hold. */
static bool rule_fits(const struct rule *rule, uint32_t channels, const struct value *output) {
    const uint32_t count = rule->multiplier.count;
    if ((count != 1 && count != channels) || rule->shift.count != count || rule->low > rule->high) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (rule->multiplier.data[i] < 0 || rule->shift.data[i] < 0 || rule->shift.data[i] > 62) return false;
    }
    return !output || output->item == 4 || (rule->low >= INT16_MIN && rule->high <= INT16_MAX);
}

/* Codes of an input pass unchanged: they fit the items of the output. */
static bool items_fit(const struct value *input, const struct value *output) { return input->item <= output->item; }

/* Lengths of 1 are repeated, missing ones stand before the first. */
static bool repeats_to(uint32_t rank, const uint32_t *lengths, const struct value *output, uint32_t axes) {
    if (rank > axes) return false;
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (lengths[axis] != 1 && lengths[axis] != output->lengths[axes - rank + axis]) return false;
    }
    return true;
}

static bool tensor_fits(const struct tensor *tensor, const struct value *output) {
    return tensor->rank && repeats_to(tensor->rank, tensor->lengths, output, output->rank);
}

/* As many numbers as axes, each axis once at most. */
static bool axes_fit(const struct array *axes, uint32_t rank) {
    uint32_t seen = 0;
    for (uint32_t i = 0; i < axes->count; i++) {
        if (axes->data[i] < 0 || (uint32_t)axes->data[i] >= rank || seen >> axes->data[i] & 1) return false;
        seen |= 1u << axes->data[i];
    }
    return axes->count >= 1;
}

static bool order_fits(const struct array *order, uint32_t channels) {
    if (!order->count) return true;
    for (uint32_t i = 0; i < order->count; i++) {
        if (order->data[i] < 0 || (uint32_t)order->data[i] >= channels) return false;
    }
    return order->count == channels;
}

/* Kernel and stride from 1, padding from 0, all below 2^16 as in a sweep. */
static bool window_fits(const struct array *window, uint32_t count) {
    if (window->count != count) return false;
    for (uint32_t i = 0; i < count; i++) {
        const int32_t least = i / 2 == 2 ? 0 : 1;
        if (window->data[i] < least || window->data[i] > UINT16_MAX) return false;
    }
    return true;
}

static bool pool_fits(const struct step *step, const struct value *input, const struct value *output) {
    const struct array *w = &step->lists[0];
    if (input->rank != 3 || !window_fits(w, 6)) return false;
    uint32_t size = input->lengths[0];
    for (uint32_t axis = 0; axis < 2; axis++) {
        const uint32_t across = window_steps(input->lengths[1 + axis], (uint32_t)w->data[4 + axis], (uint32_t)w->data[axis],
                                             (uint32_t)w->data[2 + axis], 1);
        if (!across || w->data[4 + axis] >= w->data[axis]) return false;
        if (output->rank == 3 && output->lengths[1 + axis] != across) return false;
        size *= across;
    }
    if (output->rank == 3 ? output->lengths[0] != input->lengths[0] : output->rank != 1) return false;
    return output->size == size;
}

static bool part_fits(const int32_t *part, const struct step *step, const struct value *input, const struct value *output) {
    static struct request layer; /* large, and needed here alone */
    if (part[0] < 0 || part[0] > UINT16_MAX || !layers_find((uint16_t)part[0], &layer)) return false;
    const struct array *w = &step->lists[0];
    const uint32_t down = w->count ? output->lengths[1] : 1, across = w->count ? output->lengths[2] : 1;
    const uint32_t width = w->count ? input->lengths[0] * (uint32_t)w->data[0] * (uint32_t)w->data[1] : input->lengths[0];
    if (layer.layer.inputs != width || layer.layer.outputs != output->lengths[0]) return false;
    if (output->item == 2 && (layer.layer.low < INT16_MIN || layer.layer.high > INT16_MAX)) return false;
    if (part[1] < 0 || part[2] < 1 || part[3] < 0 || part[4] < 1) return false;
    return (uint32_t)part[1] + (uint32_t)part[2] <= down && (uint32_t)part[3] + (uint32_t)part[4] <= across;
}

static bool layers_fit(const struct step *step, const struct value *input, const struct value *output) {
    const struct array *w = &step->lists[0], *parts = &step->lists[3];
    const uint32_t rank = w->count ? 3 : 1;
    if (input->rank != rank || output->rank != rank || (w->count && !window_fits(w, 8))) return false;
    for (uint32_t axis = 0; w->count && axis < 2; axis++) {
        const uint32_t steps = window_steps(input->lengths[1 + axis], (uint32_t)w->data[4 + axis], (uint32_t)w->data[axis],
                                            (uint32_t)w->data[2 + axis], (uint32_t)w->data[6 + axis]);
        if (steps != output->lengths[1 + axis]) return false;
    }
    if (step->numbers[0] < 0 || step->numbers[0] >= (int32_t)CHIP_ADC_RANGES) return false;
    if (step->numbers[1] < 1 || step->numbers[1] > (int32_t)CHIP_INPUT_BITS || step->numbers[4] < 0) return false;
    if (step->numbers[2] && !CHIP_SIGNED_PLANE) return false;
    if (step->numbers[3] < 0 || step->numbers[3] > 1 << CHIP_INPUT_BITS) return false;
    if (!order_fits(&step->lists[1], input->lengths[0]) || !order_fits(&step->lists[2], output->lengths[0])) return false;
    if (!parts->count || parts->count % PART_WORDS) return false;
    for (uint32_t i = 0; i < parts->count; i += PART_WORDS) {
        if (!part_fits(parts->data + i, step, input, output)) return false;
    }
    return true;
}

static bool concat_fits(const struct step *step, const struct value *output) {
    const uint32_t axis = (uint32_t)step->numbers[0];
    struct words rules = step->arguments;
    uint32_t length = 0;
    if (axis >= output->rank) return false;
    for (uint32_t i = 0; i < step->inputs; i++) {
        struct value input = plan_value(step->input[i]);
        const struct rule rule = words_rule(&rules);
        if (input.rank != output->rank || !rule_fits(&rule, input.lengths[0], output)) return false;
        length += input.lengths[axis];
        input.lengths[axis] = output->lengths[axis];
        if (!same_shape(&input, output)) return false;
    }
    return length == output->lengths[axis];
}

/* The output's shape is the input's with the axes of length 1, or without them. */
static bool reduced(const struct array *axes, const struct value *input, const struct value *output) {
    uint32_t kept[AXES_MAX], left[AXES_MAX], count = 0;
    if (!axes_fit(axes, input->rank)) return false;
    for (uint32_t axis = 0; axis < input->rank; axis++) {
        bool gone = false;
        for (uint32_t i = 0; i < axes->count; i++) gone = gone || (uint32_t)axes->data[i] == axis;
        kept[axis] = gone ? 1 : input->lengths[axis];
        if (!gone) left[count++] = input->lengths[axis];
    }
    if (!count) left[count++] = 1;
    const bool keeps = output->rank == input->rank && !memcmp(kept, output->lengths, 4 * output->rank);
    return keeps || (output->rank == count && !memcmp(left, output->lengths, 4 * count));
}

static bool pads_fit(const struct array *before, const struct value *input, const struct value *output) {
    if (before->count != input->rank || output->rank != input->rank) return false;
    for (uint32_t axis = 0; axis < input->rank; axis++) {
        if (before->data[axis] < 0 || (uint64_t)before->data[axis] + input->lengths[axis] > output->lengths[axis]) return false;
    }
    return true;
}

static bool slices_fit(const struct step *step, const struct value *input, const struct value *output) {
    const struct array *start = &step->lists[0], *by = &step->lists[1];
    if (start->count != input->rank || by->count != input->rank || output->rank != input->rank) return false;
    for (uint32_t axis = 0; axis < input->rank; axis++) {
        if (start->data[axis] < 0 || by->data[axis] < 1) return false;
        const uint64_t last = (uint64_t)start->data[axis] + (uint64_t)(output->lengths[axis] - 1) * (uint32_t)by->data[axis];
        if (last >= input->lengths[axis]) return false;
    }
    return true;
}

static bool permutes(const struct array *order, const struct value *input, const struct value *output) {
    if (order->count != input->rank || output->rank != input->rank || !axes_fit(order, input->rank)) return false;
    for (uint32_t axis = 0; axis < input->rank; axis++) {
        if (output->lengths[axis] != input->lengths[order->data[axis]]) return false;
    }
    return true;
}

static bool takes(const struct step *step, const struct value *input, const struct value *output) {
    const uint32_t axis = (uint32_t)step->numbers[0];
    const struct array *index = &step->lists[0];
    struct value wanted = *input;
    if (axis >= input->rank || (output->item == 2 && (int16_t)step->numbers[1] != step->numbers[1])) return false;
    wanted.lengths[axis] = index->count;
    for (uint32_t i = 0; i < index->count; i++) {
        if (index->data[i] < -1 || index->data[i] >= (int32_t)input->lengths[axis]) return false;
    }
    return same_shape(&wanted, output);
}

/* … x m x k times … x k x n. */
static bool matmul_fits(const struct value *a, const struct value *b, const struct value *output) {
    const uint32_t rank = output->rank;
    if (a->rank < 2 || b->rank < 2 || rank < 2) return false;
    if (!repeats_to(a->rank - 2, a->lengths, output, rank - 2) || !repeats_to(b->rank - 2, b->lengths, output, rank - 2)) return false;
    return a->lengths[a->rank - 1] == b->lengths[b->rank - 2] && a->lengths[a->rank - 2] == output->lengths[rank - 2] &&
           b->lengths[b->rank - 1] == output->lengths[rank - 1];
}

static bool resample_fits(const struct step *step, const struct value *input, const struct value *output) {
    const struct tensor *rows = &step->tensors[0], *columns = &step->tensors[1];
    const uint32_t rank = input->rank;
    if (rank < 2 || output->rank != rank || rows->rank != 2 || columns->rank != 2) return false;
    if (rows->lengths[1] != input->lengths[rank - 2] || columns->lengths[1] != input->lengths[rank - 1]) return false;
    struct value wanted = *input;
    wanted.lengths[rank - 2] = rows->lengths[0];
    wanted.lengths[rank - 1] = columns->lengths[0];
    return same_shape(&wanted, output);
}

static bool shift_fits(int32_t shift, int32_t most) { return shift >= 0 && shift <= most; }

bool step_fits(const struct step *step) {
    const struct value a = plan_value(step->input[0]), output = plan_value(step->output);
    const bool pair = step->kind == KIND_ADD || step->kind == KIND_PRODUCT || step->kind == KIND_MATMUL;
    if (step->kind != KIND_CONCAT && step->inputs != (pair ? 2u : 1u)) return false;
    const struct value b = plan_value(step->input[pair ? 1 : 0]);
    const uint32_t channels = output.lengths[0];
    const struct rule *rules = step->rules;
    const bool two = repeats_to(a.rank, a.lengths, &output, output.rank) && repeats_to(b.rank, b.lengths, &output, output.rank);
    switch (step->kind) {
    case KIND_LAYERS: return layers_fit(step, &a, &output);
    case KIND_RESCALE: return same_shape(&a, &output) && rule_fits(&rules[0], channels, &output);
    case KIND_ADD:
        return two && rule_fits(&rules[0], a.lengths[0], NULL) && rule_fits(&rules[1], b.lengths[0], NULL) &&
               rule_fits(&rules[2], channels, &output);
    case KIND_CONCAT: return concat_fits(step, &output);
    case KIND_MAX_POOL: return items_fit(&a, &output) && pool_fits(step, &a, &output);
    case KIND_AVERAGE_POOL: return rule_fits(&rules[0], a.lengths[0], &output) && pool_fits(step, &a, &output);
    case KIND_RESHAPE: return items_fit(&a, &output) && a.size == output.size;
    case KIND_PAD: return items_fit(&a, &output) && pads_fit(&step->lists[0], &a, &output);
    case KIND_SLICE: return items_fit(&a, &output) && slices_fit(step, &a, &output);
    case KIND_TABLE:
        for (uint32_t i = 0; i < step->lists[0].count; i++) {
            if (output.item == 2 && (int16_t)step->lists[0].data[i] != step->lists[0].data[i]) return false;
        }
        return step->lists[0].count && same_shape(&a, &output);
    case KIND_AFFINE:
        return same_shape(&a, &output) && tensor_fits(&step->tensors[0], &output) && tensor_fits(&step->tensors[1], &output) &&
               (!step->tensors[2].rank || tensor_fits(&step->tensors[2], &output)) && rule_fits(&rules[0], channels, &output);
    case KIND_PRODUCT: return two && rule_fits(&rules[0], channels, &output);
    case KIND_MATMUL:
        return shift_fits(step->numbers[0], 62) && matmul_fits(&a, &b, &output) && rule_fits(&rules[0], channels, &output);
    case KIND_SUM:
        return shift_fits(step->numbers[0], 62) && reduced(&step->lists[0], &a, &output) && rule_fits(&rules[0], channels, &output);
    case KIND_EXTREME: return items_fit(&a, &output) && reduced(&step->lists[0], &a, &output);
    case KIND_PERMUTE: return items_fit(&a, &output) && permutes(&step->lists[0], &a, &output);
    case KIND_TAKE: return items_fit(&a, &output) && takes(step, &a, &output);
    case KIND_RESAMPLE:
        return shift_fits(step->numbers[0], 62) && resample_fits(step, &a, &output) && rule_fits(&rules[0], channels, &output);
    case KIND_NORM:
        return same_shape(&a, &output) && axes_fit(&step->lists[0], a.rank) && shift_fits(step->numbers[1], 8) &&
               shift_fits(step->numbers[3], 31) && step->numbers[2] >= 0 && tensor_fits(&step->tensors[0], &output) &&
               tensor_fits(&step->tensors[1], &output) && rule_fits(&rules[0], channels, &output);
    case KIND_SOFTMAX:
        for (uint32_t i = 0; i < step->lists[0].count; i++) {
            if (step->lists[0].data[i] < 0 || step->lists[0].data[i] > 1 << 16) return false;
        }
        return (uint32_t)step->numbers[0] < a.rank && step->lists[0].count && step->lists[0].data[0] > 0 &&
               same_shape(&a, &output) && rule_fits(&rules[0], channels, &output);
    default: return false;
    }
}

#endif
