/* The network of this package, in words for the store. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

extern const uint32_t network_words[], network_size;
extern const uint64_t network_sample; /* number of the first image of the run, for the noise of a die model */

#endif
