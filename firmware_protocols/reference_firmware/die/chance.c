#include "chance.h"

#include "real.h"

static void philox(uint32_t word[2], uint32_t key) {
    for (uint32_t round = 0; round < 7; round++) {
        const uint64_t product = (uint64_t)word[0] * 0xD256D193u;
        word[0] = (uint32_t)(product >> 32) ^ key ^ word[1];
        word[1] = (uint32_t)product;
        key += 0x9E3779B9u;
    }
}

struct chance chance_root(uint64_t seed) { return (struct chance){(uint32_t)seed, (uint32_t)(seed >> 32)}; }

struct chance chance_at(struct chance parent, uint32_t word) {
    uint32_t w[2] = {word, ~parent.node}; /* the complement keeps nodes apart from draws */
    philox(w, parent.key);
    return (struct chance){w[0], w[1]};
}

static float open_unit(uint32_t word) { return ((float)(word >> 9) + 0.5f) * 0x1p-23f; }

float chance_uniform(struct chance place, uint32_t index) {
    uint32_t w[2] = {index, place.node};
    philox(w, place.key);
    return open_unit(w[0]);
}

void chance_normals(struct chance place, uint32_t pair, float z[2]) {
    uint32_t w[2] = {pair, place.node};
    float cosine, sine;
    philox(w, place.key);
    const float radius = real_sqrt(-2.0f * real_log(open_unit(w[0])));
    real_turn((float)(w[1] >> 8) * 0x1p-24f, &cosine, &sine);
    z[0] = radius * cosine;
    z[1] = radius * sine;
}

float chance_normal(struct chance place, uint32_t index) {
    float z[2];
    chance_normals(place, index / 2, z);
    return z[index & 1];
}
