/* One loop of a package in a beam: golden vectors, every stored word, every cell; then a report of what has changed. */
#include "beam.h"

#include "onboard/hil_payload.h"

#define STEP_US ((CHIP_G_HIGH_US - CHIP_G_LOW_US) / 8.0f) /* a cell that moved further has changed */
#define SHARE(us) ((us) <= CHIP_G_LOW_US ? 0.0f : ((us) - CHIP_G_LOW_US) / (CHIP_G_HIGH_US - CHIP_G_LOW_US))

enum { CELLS = CHIP_MACROS * CHIP_ROWS * CHIP_COLUMNS, READS = 8 }; /* of a cell, averaged */

static uint8_t first_us[CELLS]; /* in 1/128 of the window, at most twice of it */
static uint32_t loops, alarms, moved;

static void read_cells(void) {
    for (uint32_t i = 0; i < CELLS; i++) {
        const struct cell cell = {(uint16_t)(i / (CHIP_ROWS * CHIP_COLUMNS)), (uint16_t)(i / CHIP_COLUMNS % CHIP_ROWS),
                                  (uint16_t)(i % CHIP_COLUMNS)};
        const float before = CHIP_G_LOW_US + (float)first_us[i] / 128.0f * (CHIP_G_HIGH_US - CHIP_G_LOW_US);
        float us = 0.0f;
        for (uint32_t read = 0; read < READS; read++) us += macro_read_us(&cell, read, false, loops, 0) / READS;
        if (!loops) first_us[i] = (uint8_t)(SHARE(us) > 1.99f ? 255.0f : 128.0f * SHARE(us) + 0.5f);
        else if (us > before + STEP_US || us < before - STEP_US) moved++;
    }
}

void beam_loop(uint64_t now_us, uint8_t *report) {
    enum hil_state state = HIL_MORE;
    while (state == HIL_MORE) state = hil_golden((uint64_t)loops << 8); /* a watchdog is served here, too */
    alarms += state == HIL_REFUSED;
    while (!hil_scrub()) {}
    read_cells();
    loops++;
    const uint32_t counts[] = {BEAM_BEGINS, loops, alarms, hil_counts.mended, hil_counts.lost, hil_counts.registers, moved};
    memset(report, 0, BEAM_BYTES);
    for (uint32_t i = 0; i < sizeof counts / sizeof *counts; i++) put_u32(report + 4 * i, counts[i]);
    put_u64(report + 32, now_us);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < BEAM_BYTES - 4; i++) sum = sum * 31 + report[i];
    put_u32(report + BEAM_BYTES - 4, sum);
}
