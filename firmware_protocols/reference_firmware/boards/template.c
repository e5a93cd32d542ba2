/* A board of your own: fill in what says "yours". docs/my-board.md goes through it.
 * It builds as it is, and does nothing: no macro is driven, every cell reads 0. */
#include "../core/chip.h"
#include "../nonvolatile/memory.h"
#include "../core/server.h"

/* --- clock and line ------------------------------------------------------------------------------- */

uint64_t board_us(void) { return 0; } /* yours: a timer that never runs backwards */

/* Yours: bytes that the receive interrupt has stored, up to `room`; 0 when there are none. */
static uint32_t line_read(uint8_t *data, uint32_t room) {
    (void)data;
    (void)room;
    return 0;
}

/* Yours: whether FRAME_ENCODED more bytes fit what the send interrupt empties. Two frames of room are enough. */
static bool line_has_room(void) { return true; }

static void line_write(const uint8_t *data, uint32_t size) { /* yours: hand over to the send interrupt */
    (void)data;
    (void)size;
}

static void sleep_until(uint64_t due_us) { (void)due_us; } /* yours: WFI, or nothing at all */

static uint32_t boot_id(void) { return 1; } /* yours: a counter in flash, raised at each start */

/* --- memory without power; build with -DMEMORY_BYTES=0 and leave these four out where there is none ------- */

static uint8_t flash[MEMORY_BYTES + 1]; /* yours: an area of the flash, or an EEPROM */

const uint8_t *memory_at(uint32_t at) { return flash + at; }

/* Yours: erase where it must be, keep what else stands in a page. -DMEMORY_PAGE=… says how long a page is. */
void memory_write(uint32_t at, const void *data, uint32_t size) { memcpy(flash + at, data, size); }

const uint8_t *board_key(void) { return NULL; } /* yours: KEY_BYTES secret bytes, or NULL */

uint64_t board_epoch(void) { return 1; } /* yours: a counter beside the key, raised by this, or a random number */

/* --- macro pins ------------------------------------------------------------------------------------ */

void macro_start(void) {} /* yours: everything off, converters ready */

void macro_outputs(bool on) { (void)on; } /* yours: off takes every voltage off the array, at once */

void macro_pulse(const struct cell *cell, uint8_t polarity, uint32_t millivolts, uint32_t width_ns, uint64_t sample,
                 uint32_t turn) { /* yours; limits have been checked. `sample` and `turn` are for emulated dies */
    (void)cell, (void)polarity, (void)millivolts, (void)width_ns, (void)sample, (void)turn;
}

float macro_read_us(const struct cell *cell, uint32_t read, bool verify, uint64_t sample, uint32_t turn) {
    (void)cell, (void)read, (void)verify, (void)sample, (void)turn;
    return 0.0f; /* yours: current / v_read in µS, one read */
}

void macro_convert(const struct array_read *read, int16_t *codes) { /* yours: drive read->on, convert */
    for (uint32_t i = 0; i < CHIP_CONVERSIONS(read->outputs); i++) codes[i] = 0;
}

float macro_temperature_c(void) { return __builtin_nanf(""); } /* yours; NaN: unknown */

/* A real chip's time is the clock's; it takes and ages by itself. */
uint64_t macro_time_ns(void) { return board_us() * 1000u; }
void macro_spend_ns(uint64_t duration_ns) { (void)duration_ns; }
void macro_settle(void) {}

bool macro_wait_ns(uint64_t duration_ns) {
    static uint64_t until_us; /* 0: no wait under way */
    if (!until_us) until_us = board_us() + duration_ns / 1000u + 1;
    if (board_us() < until_us) return false;
    until_us = 0;
    return true;
}

/* --- the loop ----------------------------------------------------------------------------------------- */

int main(void) {
    static const struct chip_identity IDENTITY = {"serial number", "your firmware 1", "silicon"};
    static uint8_t frame[FRAME_ENCODED], received[256];
    server_start(chip_start(&IDENTITY), boot_id(), 1);
    for (;;) {
        for (uint32_t size; (size = line_read(received, sizeof received)) > 0;) server_receive(received, size, board_us());
        const uint32_t size = line_has_room() ? server_transmit(board_us(), frame) : 0;
        if (size) line_write(frame, size);
        else sleep_until(server_deadline(board_us()));
    }
}
