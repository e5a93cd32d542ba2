/* SHA-256 (FIPS 180-4) and HMAC over it (RFC 2104), small before fast. */
#ifndef SHA256_H
#define SHA256_H

#include "../core/bytes.h"

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
};

void sha256_start(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, uint32_t size);
void sha256_end(struct sha256 *s, uint8_t digest[32]);

struct hmac {
    struct sha256 inner;
    uint8_t outer[64]; /* the key, padded */
};

void hmac_start(struct hmac *h, const uint8_t key[32]);
static inline void hmac_add(struct hmac *h, const void *data, uint32_t size) { sha256_add(&h->inner, data, size); }
void hmac_end(struct hmac *h, uint8_t mac[32]);

/* Whether two secrets are equal, in a time that does not tell where they differ. */
bool same_secret(const uint8_t *a, const uint8_t *b, uint32_t size);

#endif
