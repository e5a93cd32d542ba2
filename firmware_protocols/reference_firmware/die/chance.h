/* Random numbers that are functions of what they belong to: Philox 2x32 with seven rounds
 * (doi 10.1145/2063384.2063405), normals by Box and Muller (doi 10.1214/aoms/1177706645). */
#ifndef CHANCE_H
#define CHANCE_H

#include "../core/bytes.h"

/* A place in the tree of everything random on one die; what hangs below a word is independent of the rest. */
struct chance {
    uint32_t key, node;
};

struct chance chance_root(uint64_t seed);
struct chance chance_at(struct chance parent, uint32_t word);

float chance_uniform(struct chance place, uint32_t index); /* in (0, 1) */
float chance_normal(struct chance place, uint32_t index);
void chance_normals(struct chance place, uint32_t pair, float z[2]); /* numbers 2 · pair and 2 · pair + 1 */

#endif
