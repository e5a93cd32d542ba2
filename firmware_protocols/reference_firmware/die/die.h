/* A die made of published laws, other ones than the Python emulator's: a second truth for the host to find out.
 * Parameters may be set by name before the start; everything else follows from the seed. */
#ifndef DIE_H
#define DIE_H

#include "../core/macro.h"
#include "chance.h"

struct die_parameters {
    float stuck_share;        /* of all cells; three quarters of them low */
    float cluster;            /* how uneven defects lie: shape of the gamma law, small = clustered */
    float set_rate;           /* of the gap, ln G a pulse at sinh(V / V0) = 1 */
    float reset_rate;
    float pulse_v0;           /* V0, volts */
    float rate_sigma;         /* log-normal, of a cell */
    float pulse_sigma;        /* log-normal, new at each pulse */
    float telegraph_us;       /* step of a cell's telegraph noise at high conductance, µS */
    float telegraph_knee_us;  /* below it the step shrinks in proportion */
    float read_noise_us;      /* of the amplifier, new at each read */
    float broadening;         /* walk of a cell in log time, √µS a doubling */
    float mirror_sigma;       /* gain of a column's current mirror */
    float comparator_codes;   /* offset of a converter */
    float capacitor_sigma;    /* of a converter's smallest capacitor */
    float converter_codes;    /* noise of a conversion */
    float line_ohm;           /* of a column, per cell */
    float residue;            /* share of a converter's last sample in its next one; no simulator knows of it */
    float droop;              /* loss of read voltage with all rows driven; nor of this */
    float temperature_c;
    float call_ms; /* that each call of the macro takes, by the board's clock */
};

extern struct die_parameters die;

/* Sets one parameter by name; false when there is none of that name. */
bool die_set(const char *name, float value);
void die_seed(uint64_t seed);
void die_take_time(void); /* as a slow board: returns `call_ms` later */

/* What random numbers belong to; the first word below the seed. */
enum { PURPOSE_DEFECT = 1, PURPOSE_CELL, PURPOSE_PULSE, PURPOSE_READ, PURPOSE_VERIFY, PURPOSE_WALK, PURPOSE_MIRROR,
       PURPOSE_COMPARATOR, PURPOSE_CAPACITOR, PURPOSE_CONVERSION };
struct chance die_chance(uint32_t purpose, uint32_t macro);

/* True conductance of a cell at the moment its die has settled to, µS, without read noise. */
float cells_us(uint16_t macro, uint16_t word_line, uint16_t bit_line);
float cells_telegraph_us(float g_us); /* the step of a cell's telegraph noise */
uint32_t cells_version(uint16_t macro); /* counts writes and settlings of a macro */
void cells_start(void);

void converters_start(void);
/* Codes of samples in units of a code; converter n takes conversions n · CHIP_ADC_SHARED onwards of the macro. */
int16_t converter_code(uint16_t macro, uint32_t converter, float sample);
float converter_gain(uint16_t macro, uint32_t conversion);
float converter_offset(uint16_t macro, uint32_t converter);

void array_start(void);
extern bool die_outputs_on; /* voltages are on the array */

#endif
