#include "die.h"

#include "../core/limits.h"

#pragma GCC optimize("Os") /* small before fast */

/* Sizes of effects are of the order that the cited measurements show; none is fitted to a chip. */
struct die_parameters die = {
    .stuck_share = 0.01f,
    .cluster = 2.0f,
    .set_rate = 4.0e-4f,
    .reset_rate = 1.2e-4f,
    .pulse_v0 = 0.25f,
    .rate_sigma = 0.4f,
    .pulse_sigma = 0.3f,
    .telegraph_us = 1.0f,
    .telegraph_knee_us = 12.0f,
    .read_noise_us = 0.5f,
    .broadening = 0.035f,
    .mirror_sigma = 0.04f,
    .comparator_codes = 1.2f,
    .capacitor_sigma = 0.03f,
    .converter_codes = 0.4f,
    .line_ohm = 0.5f,
    .residue = 0.0f,
    .droop = 0.0f,
    .temperature_c = 27.0f,
    .call_ms = 0.0f,
};

#define PARAMETER(name) {#name, &die.name}
static const struct { const char *name; float *value; } PARAMETERS[] = {
    PARAMETER(stuck_share),       PARAMETER(cluster),         PARAMETER(set_rate),        PARAMETER(reset_rate),
    PARAMETER(pulse_v0),          PARAMETER(rate_sigma),      PARAMETER(pulse_sigma),     PARAMETER(telegraph_us),
    PARAMETER(telegraph_knee_us), PARAMETER(read_noise_us),   PARAMETER(broadening),      PARAMETER(mirror_sigma),
    PARAMETER(comparator_codes),  PARAMETER(capacitor_sigma), PARAMETER(converter_codes), PARAMETER(line_ohm),
    PARAMETER(residue),           PARAMETER(droop),           PARAMETER(temperature_c),
    PARAMETER(call_ms),
};

static uint64_t seed;

static bool same(const char *a, const char *b) {
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

bool die_set(const char *name, float value) {
    for (uint32_t i = 0; i < sizeof PARAMETERS / sizeof PARAMETERS[0]; i++) {
        if (!same(PARAMETERS[i].name, name)) continue;
        *PARAMETERS[i].value = value;
        return true;
    }
    return false;
}

void die_seed(uint64_t value) { seed = value; }

void die_take_time(void) {
    if (die.call_ms <= 0.0f) return;
    const uint64_t began_us = board_us();
    const uint32_t lasts_us = (uint32_t)(die.call_ms * 1e3f);
    while (board_us() - began_us < lasts_us) {}
}

struct chance die_chance(uint32_t purpose, uint32_t macro) {
    return chance_at(chance_at(chance_root(seed ^ 0xD1E0000000000000u), purpose), macro);
}
