/* A host of the package: this machine is the payload computer, and the model of a die is its macro (die_macro.c). A board
 * of one's own has its macro, its memory, its clock and its log in their place, and its watchdog in the loop. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "beam.h"
#include "die_macro.h"
#include "network.h"
#include "onboard/hil_payload.h"

enum { APID = 42 };

/* Two slots for updates, and the golden image. */
static bool store(uint32_t first, uint32_t count, uint32_t *words, bool write) {
    static uint32_t slots[2 * SLOT_WORDS];
    const uint32_t end = 2 * SLOT_WORDS;
    if (first >= end && (write || first - end > network_size || count > network_size - (first - end))) return false;
    if (first >= end) memcpy(words, network_words + (first - end), 4 * count);
    else if (count > end - first) return false;
    else if (write) memcpy(slots + first, words, 4 * count);
    else memcpy(words, slots + first, 4 * count);
    return true;
}

static void say(const char *text, int64_t value) { fprintf(stderr, "refused: %s (%ld)\n", text, (long)value); }

static uint64_t now_us(void) { return (uint64_t)clock() * 1000000u / CLOCKS_PER_SEC; }

/* The same package in a beam: a report a loop, in hexadecimal. */
static int beam(int loops) {
    for (uint8_t report[BEAM_BYTES]; loops-- > 0; printf("\n")) {
        beam_loop(now_us(), report);
        for (uint32_t i = 0; i < BEAM_BYTES; i++) printf("%02x", report[i]);
    }
    return 0;
}

int main(int count, char **words) {
    static const struct hil_board board = {die_macro, store, say, now_us};
    uint8_t packet[HIL_PACKET];
    const bool beams = count == 3 && words[1][0] == '-';
    FILE *writes = fopen("writes.bin", "rb"), *images = count > 1 && !beams ? fopen(words[1], "rb") : NULL;
    FILE *packets = count == 3 && !beams ? fopen(words[2], "wb") : NULL;
    if (!writes || !(beams || (images && (packets || count == 2)))) {
        fprintf(stderr, "payload IMAGES [TELEMETRY] or payload --beam LOOPS, beside writes.bin: images are raw bytes\n");
        return 2;
    }
    enum hil_state state = HIL_MORE;
    for (hil_start(&board); state == HIL_MORE;) state = hil_load(); /* a watchdog is served in these loops */
    if (state == HIL_REFUSED || !die_begin(writes)) return 2;
    if (beams) return beam(atoi(words[2]));
    for (uint64_t n = 0; fread(hil_room(), hil_image_bytes(), 1, images); n++) {
        hil_begin(hil_room(), network_sample + n);
        for (state = HIL_MORE; state == HIL_MORE;) state = hil_step();
        if (state == HIL_REFUSED) return 1;
        for (uint32_t i = 0; i < hil_logits(); i++) printf(i ? " %ld" : "%ld", (long)hil_logit(i));
        printf("\n");
        hil_housekeeping(APID, 0, packet);
        if (packets && !fwrite(packet, sizeof packet, 1, packets)) return 2;
    }
    return 0;
}
