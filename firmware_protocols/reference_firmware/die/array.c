/* One read of an array: currents of the driven rows meet on each column and are converted. */
#include "die.h"

#include "../core/chip.h"
#include "real.h"

#define LINES CHIP_CONVERSIONS(CHIP_OUTPUTS)

/* What a conversion sees of each cell or pair, at the settled moment; one row after the other. */
struct seen {
    float net_us[CHIP_LOGICAL_ROWS][LINES];      /* current a volt, with its sign */
    float load_us[CHIP_LOGICAL_ROWS][LINES];     /* of both cells, without */
    float variance[CHIP_LOGICAL_ROWS][LINES];    /* of the telegraph noise of one read, µS² */
};

static struct seen seen[CHIP_MACROS];
static uint32_t seen_version[CHIP_MACROS];
static bool is_seen[CHIP_MACROS];
static const float LSB_US[CHIP_ADC_RANGES] = CHIP_ADC_LSB_US;

void array_start(void) { memset(is_seen, 0, sizeof is_seen); }

static void look(uint16_t macro, uint32_t row, uint32_t output) {
    struct seen *s = &seen[macro];
    const uint16_t line = chip_word_lines[row];
    const float plus = cells_us(macro, line, chip_bit_lines[2 * output]);
    const float minus = cells_us(macro, line, chip_bit_lines[2 * output + 1]);
    const float step_plus = cells_telegraph_us(plus), step_minus = cells_telegraph_us(minus);
#if CHIP_PAIR_DIGITAL
    const uint32_t other = CHIP_OUTPUTS + output;
    s->net_us[row][output] = s->load_us[row][output] = plus;
    s->net_us[row][other] = s->load_us[row][other] = minus;
    s->variance[row][output] = 0.25f * step_plus * step_plus;
    s->variance[row][other] = 0.25f * step_minus * step_minus;
#else
    s->net_us[row][output] = plus - minus;
    s->load_us[row][output] = plus + minus;
    s->variance[row][output] = 0.25f * (step_plus * step_plus + step_minus * step_minus);
#endif
}

static void look_at(uint16_t macro) {
    if (is_seen[macro] && seen_version[macro] == cells_version(macro)) return;
    for (uint32_t row = 0; row < CHIP_LOGICAL_ROWS; row++) {
        for (uint32_t output = 0; output < CHIP_OUTPUTS; output++) look(macro, row, output);
    }
    seen_version[macro] = cells_version(macro);
    is_seen[macro] = true;
}

/* Sums over the driven rows, of the outputs of the tile only. */
static void add_rows(const struct array_read *read, uint32_t first, uint32_t count, float *net, float *load, float *variance) {
    const struct seen *s = &seen[read->macro];
    for (uint32_t i = 0; i < read->on_count; i++) {
        const uint32_t row = read->row0 + (uint32_t)read->on[i];
        for (uint32_t o = 0; o < count; o++) {
            net[o] += s->net_us[row][first + o];
            load[o] += s->load_us[row][first + o];
            variance[o] += s->variance[row][first + o];
        }
    }
}

/* The resistance of a column lowers what reaches its end, I = V ΣG / (1 + R ΣG) with all of it lumped half way
 * (line resistance after Chen 2013, doi 10.1109/TED.2013.2246791). Telegraph noises of many cells add to a normal
 * variable; it is new at each read, as is the noise of the conversion. */
static void convert(const struct array_read *read, uint32_t first, int16_t *codes) {
    float net[CHIP_OUTPUTS] = {0}, load[CHIP_OUTPUTS] = {0}, variance[CHIP_OUTPUTS] = {0}, z[2] = {0};
    const float ohm = die.line_ohm * 0.5f * (float)CHIP_ROWS * 1e-6f, lsb_us = LSB_US[read->range_code];
    const float supply = 1.0f - die.droop * (float)read->on_count / (float)CHIP_LOGICAL_ROWS;
    struct chance noise = chance_at(die_chance(PURPOSE_CONVERSION, read->macro), (uint32_t)read->sample);
    noise = chance_at(chance_at(noise, (uint32_t)(read->sample >> 32)), read->position);
    noise = chance_at(chance_at(noise, read->plane << 16 | read->row0), first);
    add_rows(read, first, read->outputs, net, load, variance);
    uint32_t converter = UINT32_MAX;
    float last = 0.0f;
    for (uint32_t o = 0; o < read->outputs; o++) {
        const uint32_t conversion = first + o;
        if (conversion / CHIP_ADC_SHARED != converter) last = 0.0f; /* its first sample in this read */
        converter = conversion / CHIP_ADC_SHARED;
        if (o % 2 == 0) chance_normals(noise, o / 2, z);
        const float gain = supply * converter_gain(read->macro, conversion) / (lsb_us * (1.0f + ohm * load[o]));
        const float spread = real_sqrt(gain * gain * variance[o] + die.converter_codes * die.converter_codes);
        const float clean = gain * net[o] + converter_offset(read->macro, converter);
        codes[o] = converter_code(read->macro, converter, clean + spread * z[o % 2] + die.residue * last);
        last = clean;
    }
}

void macro_convert(const struct array_read *read, int16_t *codes) {
    look_at(read->macro);
    die_take_time();
    convert(read, read->output0, codes);
#if CHIP_PAIR_DIGITAL
    convert(read, CHIP_OUTPUTS + read->output0, codes + read->outputs);
#endif
}

bool die_outputs_on;

void macro_outputs(bool on) { die_outputs_on = on; }

float macro_temperature_c(void) { return die.temperature_c; }

void macro_start(void) {
    macro_outputs(false);
    cells_start();
    converters_start();
    array_start();
}
