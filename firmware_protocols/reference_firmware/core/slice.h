/* A slice of work by time: requests that take long are worked on until it is over, then the line is looked at. */
#ifndef SLICE_H
#define SLICE_H

#include <stdbool.h>

void slice_begin(void);
bool slice_over(void);

#endif
