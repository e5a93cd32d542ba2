/* Column converters: a current mirror a column, successive approximation with capacitors that do not match. */
#include "die.h"

#include "../core/chip.h"
#include "real.h"

#define CONVERSIONS CHIP_CONVERSIONS(CHIP_OUTPUTS)
#define CONVERTERS ((CONVERSIONS + CHIP_ADC_SHARED - 1) / CHIP_ADC_SHARED)

static float gains[CHIP_MACROS][CONVERSIONS];                   /* near 1 */
static float offsets[CHIP_MACROS][CONVERTERS];                  /* codes */
static float weights[CHIP_MACROS][CONVERTERS][CHIP_ADC_BITS];   /* codes, lowest bit first */

/* Mirrors and comparators: neighbours of one drawing differ by a normal variable (Pelgrom, Duinmaijer, Welbers
 * 1989, doi 10.1109/JSSC.1989.572629). Bit b is 2^b equal capacitors, so that its relative error is σ / √2^b
 * (charge redistribution after McCreary and Gray 1975, doi 10.1109/JSSC.1975.1050629). Drawn once a die. */
void converters_start(void) {
    for (uint32_t macro = 0; macro < CHIP_MACROS; macro++) {
        const struct chance mirrors = die_chance(PURPOSE_MIRROR, macro);
        const struct chance comparators = die_chance(PURPOSE_COMPARATOR, macro);
        for (uint32_t i = 0; i < CONVERSIONS; i++) gains[macro][i] = 1.0f + die.mirror_sigma * chance_normal(mirrors, i);
        for (uint32_t c = 0; c < CONVERTERS; c++) {
            const struct chance capacitors = chance_at(die_chance(PURPOSE_CAPACITOR, macro), c);
            offsets[macro][c] = die.comparator_codes * chance_normal(comparators, c);
            for (uint32_t bit = 0; bit < CHIP_ADC_BITS; bit++) {
                const float nominal = (float)(1u << bit);
                weights[macro][c][bit] = nominal + die.capacitor_sigma * real_sqrt(nominal) * chance_normal(capacitors, bit);
            }
        }
    }
}

float converter_gain(uint16_t macro, uint32_t conversion) { return gains[macro][conversion]; }

float converter_offset(uint16_t macro, uint32_t converter) { return offsets[macro][converter]; }

/* The highest code whose capacitors do not outweigh the sample, bit by bit from the largest. */
int16_t converter_code(uint16_t macro, uint32_t converter, float sample) {
    const float *weight = weights[macro][converter];
    float left = sample + 0.5f - (float)CHIP_ADC_LOW;
    int32_t code = 0;
    for (int32_t bit = CHIP_ADC_BITS - 1; bit >= 0; bit--) {
        if (left < weight[bit]) continue;
        left -= weight[bit];
        code |= 1 << bit;
    }
    return (int16_t)(code + CHIP_ADC_LOW);
}
