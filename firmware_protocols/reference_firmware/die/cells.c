/* The cells: what pulses, time and reads do to them. */
#include "die.h"

#include "../core/chip.h"
#include "real.h"

#pragma GCC optimize("Os") /* small before fast */

#define BLOCK 16u           /* word and bit lines of one patch of defects */
#define WALK_START_S 1.0f   /* ages below it count as it */
#define LONGEST_STEP 1.0f   /* of ln G in one pulse: the select transistor limits the current */

enum { GOOD, STUCK_LOW, STUCK_HIGH };

struct cell_state {
    float g_us;          /* just after its last pulse */
    uint32_t pulsed_ms;  /* when that was */
    uint32_t lot;        /* which path it walks since */
    uint8_t kind;
};

#define FORMED 0xF04E3D00u

static struct cell_state cells[CHIP_MACROS][CHIP_ROWS][CHIP_COLUMNS] NOT_CLEARED;
static uint32_t versions[CHIP_MACROS] NOT_CLEARED, settled_ms NOT_CLEARED;
static uint64_t now_ns NOT_CLEARED;
static uint32_t formed NOT_CLEARED; /* FORMED: these cells are this die's already */

static uint32_t number(uint16_t word_line, uint16_t bit_line) { return (uint32_t)word_line * CHIP_COLUMNS + bit_line; }

/* --- defects -------------------------------------------------------------------------------------------- */

/* Defects come in patches: their rate is gamma distributed from block to block, so that counts are negative
 * binomial (Stapper, Armstrong, Saji 1983, doi 10.1109/PROC.1983.12619). The gamma variable of shape α is the
 * mean of α exponential ones. Drawn once a die. */
static float patch_rate(struct chance defects, uint32_t block) {
    const uint32_t shape = die.cluster < 1.0f ? 1 : (uint32_t)(die.cluster + 0.5f);
    float total = 0.0f;
    for (uint32_t i = 0; i < shape; i++) total -= real_log(chance_uniform(chance_at(defects, block), i));
    return die.stuck_share * total / (float)shape;
}

static void start_macro(uint16_t macro) {
    const struct chance defects = die_chance(PURPOSE_DEFECT, macro), as_formed = chance_at(defects, UINT32_MAX);
    const uint32_t across = (CHIP_COLUMNS + BLOCK - 1) / BLOCK;
    for (uint16_t row = 0; row < CHIP_ROWS; row++) {
        float rate = 0.0f;
        for (uint16_t column = 0; column < CHIP_COLUMNS; column++) {
            struct cell_state *c = &cells[macro][row][column];
            if (column % BLOCK == 0) rate = patch_rate(defects, row / BLOCK * across + column / BLOCK);
            const float u = chance_uniform(as_formed, 2 * number(row, column));
            const float v = chance_uniform(as_formed, 2 * number(row, column) + 1);
            c->kind = u >= rate ? GOOD : u < 0.75f * rate ? STUCK_LOW : STUCK_HIGH;
            c->g_us = CHIP_G_HIGH_US * (0.4f + 0.5f * v); /* as formed */
            if (c->kind == STUCK_LOW) c->g_us = CHIP_G_LOW_US * 0.8f * v;
            if (c->kind == STUCK_HIGH) c->g_us = CHIP_G_HIGH_US * (1.05f + 0.2f * v);
        }
    }
}

void cells_start(void) {
    if (formed == FORMED) return;
    formed = FORMED;
    memset(cells, 0, sizeof cells);
    memset(versions, 0, sizeof versions);
    now_ns = 0;
    settled_ms = 0;
    for (uint16_t macro = 0; macro < CHIP_MACROS; macro++) start_macro(macro);
}

/* --- chip time -------------------------------------------------------------------------------------------- */

uint64_t macro_time_ns(void) { return now_ns; }

void macro_spend_ns(uint64_t duration_ns) { now_ns += duration_ns; }

bool macro_wait_ns(uint64_t duration_ns) {
    now_ns += duration_ns;
    return true;
}

void macro_settle(void) {
    settled_ms = (uint32_t)(now_ns / 1000000u);
    for (uint32_t macro = 0; macro < CHIP_MACROS; macro++) versions[macro]++;
}

uint32_t cells_version(uint16_t macro) { return versions[macro]; }

/* --- ageing ----------------------------------------------------------------------------------------------- */

/* A cell walks in log time: low-frequency noise whose spectrum is 1/f adds the same variance in every doubling
 * of the age, and its relative size falls with the root of the conductance, σ_G = b √G √(log2(t / t0))
 * (Ambrogio et al. 2015, doi 10.1109/TED.2015.2475598). One normal a cell, write and doubling; between two
 * doublings the path is straight. */
static float walk(const struct cell_state *c, uint16_t macro, uint32_t cell) {
    const float age_s = (float)(settled_ms > c->pulsed_ms ? settled_ms - c->pulsed_ms : 0) * 1e-3f;
    if (die.broadening <= 0.0f || age_s <= WALK_START_S || c->kind != GOOD) return 0.0f;
    const float doublings = real_log(age_s / WALK_START_S) * (1.0f / REAL_LN2);
    const struct chance path = chance_at(chance_at(die_chance(PURPOSE_WALK, macro), cell), c->lot);
    float sum = 0.0f, left = doublings, z[2] = {0};
    for (uint32_t i = 0; left > 0.0f; i++, left -= 1.0f) {
        if (i % 2 == 0) chance_normals(path, i / 2, z);
        sum += left < 1.0f ? left * z[i % 2] : z[i % 2];
    }
    return die.broadening * real_sqrt(c->g_us * CHIP_G_HIGH_US) * sum;
}

float cells_us(uint16_t macro, uint16_t word_line, uint16_t bit_line) {
    const struct cell_state *c = &cells[macro][word_line][bit_line];
    const float g = c->g_us + walk(c, macro, number(word_line, bit_line));
    return g > 0.0f ? g : 0.0f;
}

/* --- pulses ------------------------------------------------------------------------------------------------ */

/* The gap g of the filament moves by dg/dt ∝ sinh(V / V0) and the current falls as exp(−g / g0) (Guan, Yu, Wong
 * 2012, doi 10.1109/LED.2012.2210856), so that a pulse of width t changes
 *     ln G by ± rate · t · sinh(V / V0) · room,
 * room falling to 0 at the ends of a cell's range. Rates are log-normal, of a cell and of a pulse. */
static float gap_step(float g_us, bool up, float volts, float width_us, float rate, float low_us, float high_us) {
    const float room = up ? (high_us - g_us) / high_us : (g_us - low_us) / g_us;
    const float step = rate * width_us * real_sinh(volts / die.pulse_v0) * (room > 0.0f ? room : 0.0f);
    const float limited = step < LONGEST_STEP ? step : LONGEST_STEP;
    const float moved = g_us * real_exp(up ? limited : -limited);
    return moved > high_us ? high_us : moved < low_us ? low_us : moved;
}

void macro_pulse(const struct cell *at, uint8_t polarity, uint32_t millivolts, uint32_t width_ns, uint64_t sample,
                 uint32_t turn) {
    struct cell_state *c = &cells[at->macro][at->word_line][at->bit_line];
    const uint32_t cell = number(at->word_line, at->bit_line);
    versions[at->macro]++;
    die_take_time();
    if (c->kind != GOOD) return;
    const bool up = polarity == POLARITY_SET;
    const struct chance own = chance_at(die_chance(PURPOSE_CELL, at->macro), cell);
    const struct chance now = chance_at(chance_at(die_chance(PURPOSE_PULSE, at->macro), cell), (uint32_t)sample);
    const float spread = die.rate_sigma * chance_normal(own, 0) + die.pulse_sigma * chance_normal(now, turn);
    const float low_us = CHIP_G_LOW_US * (0.2f + 0.3f * chance_uniform(own, 1));
    const float high_us = CHIP_G_HIGH_US * (1.25f + 0.3f * chance_uniform(own, 2));
    const float rate = (up ? die.set_rate : die.reset_rate) * real_exp(spread);
    c->g_us = gap_step(cells_us(at->macro, at->word_line, at->bit_line), up, (float)millivolts * 1e-3f,
                       (float)width_ns * 1e-3f, rate, low_us, high_us);
    c->pulsed_ms = settled_ms;
    c->lot = (uint32_t)sample + turn * 0x10001u;
}

/* --- reads --------------------------------------------------------------------------------------------------- */

/* A trap beside the filament takes a fixed share of a thin one's current and a fixed current of a thick one
 * (Ambrogio et al. 2014, doi 10.1109/TED.2014.2330202): two states, each half of the reads. */
float cells_telegraph_us(float g_us) {
    return g_us < die.telegraph_knee_us ? die.telegraph_us * g_us / die.telegraph_knee_us : die.telegraph_us;
}

float macro_read_us(const struct cell *at, uint32_t read, bool verify, uint64_t sample, uint32_t turn) {
    const float g = cells_us(at->macro, at->word_line, at->bit_line), step = cells_telegraph_us(g);
    const struct chance purpose = die_chance(verify ? PURPOSE_VERIFY : PURPOSE_READ, at->macro);
    const struct chance cell = chance_at(purpose, number(at->word_line, at->bit_line));
    const struct chance now = chance_at(chance_at(chance_at(cell, (uint32_t)sample), (uint32_t)(sample >> 32)), turn);
    const float trap = chance_uniform(now, 2 * read) < 0.5f ? 0.5f * step : -0.5f * step;
    const float noise = trap + die.read_noise_us * chance_normal(chance_at(now, UINT32_MAX), read);
    die_take_time();
    return (g + noise) * (CHIP_READ_BY_COLUMN ? converter_gain(at->macro, at->bit_line / CHIP_LINES_A_CONVERSION) : 1.0f);
}
