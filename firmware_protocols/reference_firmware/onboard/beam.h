/* Reports of a package in a beam: little-endian words of 32 bits since power on. 0 BEAM_BEGINS, 1 loops, 2 golden vectors off,
 * 3 pairs of stored words mended, 4 lost, 5 reads repeated, 6 cells found moved, 8 and 9 microseconds, 15 sum s := 31 s + byte. */
#ifndef BEAM_H
#define BEAM_H

#include <stdint.h>

enum { BEAM_BYTES = 64, BEAM_BEGINS = 0x4D414542 };

void beam_loop(uint64_t now_us, uint8_t *report);

#endif
