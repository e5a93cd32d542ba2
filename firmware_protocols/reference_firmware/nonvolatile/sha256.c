#include "sha256.h"

#pragma GCC optimize("Os") /* small before fast */

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t x, uint32_t by) { return x >> by | x << (32 - by); }
static uint32_t big_endian(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void mix(struct sha256 *s) {
    uint32_t w[16], v[8];
    memcpy(v, s->state, sizeof v);
    for (uint32_t i = 0; i < 64; i++) {
        if (i < 16) {
            w[i] = big_endian(s->block + 4 * i);
        } else {
            const uint32_t a = w[(i + 1) & 15], b = w[(i + 14) & 15];
            const uint32_t low = turned(a, 7) ^ turned(a, 18) ^ a >> 3, high = turned(b, 17) ^ turned(b, 19) ^ b >> 10;
            w[i & 15] += low + w[(i + 9) & 15] + high;
        }
        const uint32_t one = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25);
        const uint32_t first = v[7] + one + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i & 15];
        const uint32_t zero = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
        const uint32_t second = zero + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        for (uint32_t k = 7; k; k--) v[k] = v[k - 1];
        v[4] += first;
        v[0] = first + second;
    }
    for (uint32_t k = 0; k < 8; k++) s->state[k] += v[k];
}

void sha256_start(struct sha256 *s) {
    static const uint32_t FIRST[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, FIRST, sizeof FIRST);
    s->size = 0;
}

void sha256_add(struct sha256 *s, const void *data, uint32_t size) {
    const uint8_t *at = data;
    while (size--) {
        s->block[s->size++ % 64] = *at++;
        if (s->size % 64 == 0) mix(s);
    }
}

void sha256_end(struct sha256 *s, uint8_t digest[32]) {
    const uint64_t bits = 8 * s->size;
    uint8_t end = 0x80;
    sha256_add(s, &end, 1);
    end = 0;
    while (s->size % 64 != 56) sha256_add(s, &end, 1);
    for (uint32_t i = 0; i < 8; i++) {
        end = (uint8_t)(bits >> (56 - 8 * i));
        sha256_add(s, &end, 1);
    }
    for (uint32_t i = 0; i < 32; i++) digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void hmac_start(struct hmac *h, const uint8_t key[32]) {
    uint8_t inner[64];
    for (uint32_t i = 0; i < 64; i++) {
        const uint8_t own = i < 32 ? key[i] : 0;
        inner[i] = own ^ 0x36;
        h->outer[i] = own ^ 0x5c;
    }
    sha256_start(&h->inner);
    sha256_add(&h->inner, inner, sizeof inner);
}

void hmac_end(struct hmac *h, uint8_t mac[32]) {
    sha256_end(&h->inner, mac);
    sha256_start(&h->inner);
    sha256_add(&h->inner, h->outer, sizeof h->outer);
    sha256_add(&h->inner, mac, 32);
    sha256_end(&h->inner, mac);
}

bool same_secret(const uint8_t *a, const uint8_t *b, uint32_t size) {
    uint8_t different = 0;
    while (size--) different |= (uint8_t)(*a++ ^ *b++);
    return !different;
}
