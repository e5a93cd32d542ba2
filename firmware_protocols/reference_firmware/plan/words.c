/* Words of a plan read as steps and values. */
#include "plan.h"

#if PLAN_WORDS

#pragma GCC optimize("Os") /* small before fast */

static const int32_t *take(struct words *words, uint32_t count) {
    if (words->broken || count > words->left) {
        words->broken = true;
        return NULL;
    }
    const int32_t *at = words->at;
    words->at += count;
    words->left -= count;
    return at;
}

int32_t words_take(struct words *words) {
    const int32_t *at = take(words, 1);
    return at ? *at : 0;
}

struct array words_list(struct words *words) {
    struct array list = {NULL, (uint32_t)words_take(words)};
    list.data = take(words, list.count);
    return list;
}

struct rule words_rule(struct words *words) {
    struct rule rule;
    rule.multiplier = words_list(words);
    rule.shift = words_list(words);
    rule.low = words_take(words);
    rule.high = words_take(words);
    return rule;
}

static struct tensor take_tensor(struct words *words) {
    struct tensor tensor = {0};
    tensor.rank = (uint32_t)words_take(words);
    if (tensor.rank > AXES_MAX) words->broken = true;
    if (words->broken || !tensor.rank) return tensor;
    uint64_t size = 1;
    for (uint32_t axis = 0; axis < tensor.rank; axis++) {
        tensor.lengths[axis] = (uint32_t)words_take(words);
        size *= tensor.lengths[axis];
        if (!size || size > words->left) words->broken = true;
        if (words->broken) return tensor;
    }
    tensor.size = (uint32_t)size;
    tensor.data = take(words, tensor.size);
    return tensor;
}

/* Arguments of each kind, in order: i a number, a a list, t a tensor, r a rule, R a rule for each input. */
static const char *const ARGUMENTS[] = {
    [KIND_LAYERS] = "iiiiiaaaa", [KIND_RESCALE] = "r", [KIND_ADD] = "irrr", [KIND_CONCAT] = "iR", [KIND_MAX_POOL] = "a",
    [KIND_AVERAGE_POOL] = "ar", [KIND_RESHAPE] = "", [KIND_PAD] = "a", [KIND_SLICE] = "aa", [KIND_TABLE] = "ia",
    [KIND_AFFINE] = "tttr", [KIND_PRODUCT] = "r", [KIND_MATMUL] = "ir", [KIND_SUM] = "air", [KIND_EXTREME] = "ai",
    [KIND_PERMUTE] = "a", [KIND_TAKE] = "iia", [KIND_RESAMPLE] = "ttir", [KIND_NORM] = "aiiiittr", [KIND_SOFTMAX] = "iar",
};

void step_read(struct words *words, struct step *to) {
    memset(to, 0, sizeof *to);
    to->kind = (uint32_t)words_take(words);
    to->output = (uint32_t)words_take(words);
    to->inputs = (uint32_t)words_take(words);
    if (to->kind < KIND_LAYERS || to->kind > KIND_SOFTMAX || !to->inputs || to->inputs > INPUTS_MAX) words->broken = true;
    for (uint32_t i = 0; i < to->inputs && !words->broken; i++) to->input[i] = (uint32_t)words_take(words);
    const struct array all = words_list(words);
    if (words->broken) return;
    struct words arguments = {all.data, all.count, false};
    uint32_t numbers = 0, lists = 0, tensors = 0, rules = 0;
    for (const char *argument = ARGUMENTS[to->kind]; *argument; argument++) {
        switch (*argument) {
        case 'i': to->numbers[numbers++] = words_take(&arguments); break;
        case 'a': to->lists[lists++] = words_list(&arguments); break;
        case 't': to->tensors[tensors++] = take_tensor(&arguments); break;
        case 'r': to->rules[rules++] = words_rule(&arguments); break;
        default:
            to->arguments = arguments;
            for (uint32_t i = 0; i < to->inputs; i++) words_rule(&arguments);
        }
    }
    if (arguments.broken || arguments.left) words->broken = true;
}

#endif
