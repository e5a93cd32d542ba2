#include "slice.h"

#include "macro.h"

#define SLICE_US 2000u /* and one call of the macro more */

static uint64_t begun_us;

void slice_begin(void) { begun_us = board_us(); }

bool slice_over(void) { return board_us() - begun_us >= SLICE_US; }
