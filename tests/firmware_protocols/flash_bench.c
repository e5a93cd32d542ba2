/* The log of a flash (boards/flash_log.c) over a flash that is modelled here, whose power fails at any step. Argument: how
 * many lives. Says how often a write that was cut was there afterwards, and how often not; anything else is the end. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../boards/flash_log.h"

static uint8_t flash[2][FLASH_SECTOR];
static bool written[2][FLASH_SECTOR / FLASH_WORD], cut[2][FLASH_SECTOR / FLASH_WORD];
static long steps_left;
static jmp_buf power_lost;
static uint32_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

static void wrong(const char *what) {
    puts(what);
    exit(1);
}

bool flash_read(uint32_t sector, uint32_t at, uint8_t word[FLASH_WORD]) {
    memcpy(word, flash[sector] + at, FLASH_WORD);
    return !cut[sector][at / FLASH_WORD];
}

void flash_program(uint32_t sector, uint32_t at, const uint8_t word[FLASH_WORD]) {
    if (at % FLASH_WORD || at + FLASH_WORD > FLASH_SECTOR) wrong("beyond the sector");
    if (written[sector][at / FLASH_WORD]) wrong("a word was programmed twice");
    if (!steps_left--) {
        written[sector][at / FLASH_WORD] = cut[sector][at / FLASH_WORD] = draw(2); /* or no bit has changed yet */
        longjmp(power_lost, 1);
    }
    written[sector][at / FLASH_WORD] = true;
    memcpy(flash[sector] + at, word, FLASH_WORD);
}

void flash_erase(uint32_t sector) {
    if (!steps_left--) { /* half of it is gone */
        for (uint32_t i = 0; i < FLASH_SECTOR / FLASH_WORD; i++) {
            written[sector][i] = true;
            if (draw(2)) memset(flash[sector] + i * FLASH_WORD, 0xFF, FLASH_WORD);
            cut[sector][i] = !draw(4);
        }
        longjmp(power_lost, 1);
    }
    memset(flash[sector], 0xFF, FLASH_SECTOR);
    memset(written[sector], 0, sizeof written[sector]);
    memset(cut[sector], 0, sizeof cut[sector]);
}

static uint8_t before[MEMORY_BYTES], after[MEMORY_BYTES];

int main(int count, char **words) {
    uint32_t outcomes[2] = {0};
    memset(flash, 0xFF, sizeof flash);
    memset(before, 0xFF, sizeof before);
    steps_left = -1;
    flash_log_start();
    for (long life = count > 1 ? atol(words[1]) : 1; life--;) {
        memcpy(after, before, sizeof after);
        steps_left = draw(400);
        if (!setjmp(power_lost)) {
            flash_log_start();
            if (memcmp(memory_at(0), before, sizeof before)) wrong("a start changed the memory");
            for (;;) {
                uint8_t data[300];
                const uint32_t size = draw(4) ? draw(40) : draw(sizeof data), at = draw(MEMORY_BYTES - size + 1);
                for (uint32_t i = 0; i < size; i++) data[i] = (uint8_t)draw(256);
                memcpy(before, after, sizeof before);
                memcpy(after + at, data, size);
                memory_write(at, data, size);
                if (memcmp(memory_at(0), after, sizeof after)) wrong("a write did something else");
            }
        }
        steps_left = -1;
        flash_log_start();
        const bool old = !memcmp(memory_at(0), before, sizeof before), new = !memcmp(memory_at(0), after, sizeof after);
        if (!old && !new) wrong("neither what was there before nor what was written");
        outcomes[new]++;
        memcpy(before, memory_at(0), sizeof before);
    }
    printf("%u %u\n", outcomes[0], outcomes[1]);
    return 0;
}
