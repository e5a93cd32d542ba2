/* Values of a plan: their places as its words say, and their codes in one arena. */
#include "plan.h"

#if PLAN_WORDS
#pragma GCC optimize("Os") /* small before fast */

struct plan plan;

static uint8_t arena[PLAN_MEMORY];

struct value value_read(struct words *words) {
    struct value value = {0};
    value.place = (uint32_t)words_take(words);
    value.item = (uint32_t)words_take(words);
    value.rank = (uint32_t)words_take(words);
    value.size = 1;
    if (value.rank < 1 || value.rank > AXES_MAX) words->broken = true;
    for (uint32_t axis = 0; axis < value.rank && !words->broken; axis++) {
        value.lengths[axis] = (uint32_t)words_take(words);
        if (!value.lengths[axis] || value.lengths[axis] > PLAN_MEMORY / value.size) words->broken = true;
        else value.size *= value.lengths[axis];
    }
    const bool aligned = value.place % 4 == 0 && (value.item == 2 || value.item == 4);
    if (!aligned || (uint64_t)value.place + (uint64_t)value.size * value.item > PLAN_MEMORY) words->broken = true;
    return value;
}

struct value plan_value(uint32_t number) {
    struct words words = {plan.words + plan.value_at[number], plan.have, false};
    return value_read(&words);
}

int32_t code_get(const struct value *value, uint32_t index) {
    const uint8_t *at = arena + value->place + value->item * index;
    return value->item == 2 ? (int16_t)get_u16(at) : get_i32(at);
}

void code_put(const struct value *value, uint32_t index, int32_t code) {
    uint8_t *at = arena + value->place + value->item * index;
    if (value->item == 2) put_u16(at, (uint16_t)code);
    else put_i32(at, code);
}

const uint8_t *codes_at(const struct value *value) { return arena + value->place; }

uint8_t *plan_spare(uint32_t bytes) { return plan_value(0).place >= bytes ? arena : arena + PLAN_MEMORY - bytes; }

#endif
