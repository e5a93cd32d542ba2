/* The model of a die as the macro of a package: for a machine without a board. */
#ifndef DIE_MACRO_H
#define DIE_MACRO_H

#include <stdio.h>

#include "core/macro.h"

/* After `hil_start`: the die of the run, with every write of the run at its chip time, so that each read gives the codes that it gave there. */
bool die_begin(FILE *writes);

/* As `macro` of onboard/hil_payload.h. */
bool die_macro(const struct array_read *read, int16_t *codes);

#endif
