/* Telemetry: the counts since power on as a housekeeping report. */
#include "hil_payload.h"

#pragma GCC optimize("Os") /* small before fast */

enum { SECOND_HEADER = 0x0800, WHOLE = 0xC000, PUS_C_3_25 = 0x200319, STRUCTURE = 1 };

/* Big-endian. */
static uint8_t *put(uint8_t *at, uint32_t bytes, uint64_t value) {
    while (bytes) *at++ = (uint8_t)(value >> 8 * --bytes);
    return at;
}

void hil_housekeeping(uint16_t apid, uint16_t destination, uint8_t *packet) {
    static uint16_t sent;
    const uint64_t us = board_us();
    const uint32_t counts[] = {hil_counts.images, hil_counts.refused, hil_counts.golden, hil_counts.mended,
                               hil_counts.lost, hil_counts.registers, hil_counts.update};
    uint8_t *at = put(packet, 2, SECOND_HEADER | (apid & 0x7FFu));
    at = put(at, 2, WHOLE | (sent & 0x3FFFu));
    at = put(at, 2, HIL_PACKET - 7);
    at = put(at, 3, PUS_C_3_25);
    at = put(at, 2, sent++);
    at = put(at, 2, destination);
    at = put(at, 4, us / 1000000);
    at = put(at, 2, us % 1000000 * 65536 / 1000000);
    at = put(at, 2, STRUCTURE);
    for (uint32_t i = 0; i < sizeof counts / sizeof *counts; i++) at = put(at, 4, counts[i]);
    uint32_t sum = 0xFFFF;
    for (const uint8_t *byte = packet; byte < at; byte++) {
        sum ^= (uint32_t)*byte << 8;
        for (uint32_t bit = 0; bit < 8; bit++) sum = sum << 1 ^ (sum & 0x8000 ? 0x1021u : 0);
    }
    put(at, 2, sum & 0xFFFF);
}
