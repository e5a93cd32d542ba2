/* Little-endian fields at any address, and the two memory verbs that a compiler may call. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

static inline uint8_t get_u8(const uint8_t *at) { return at[0]; }
static inline uint16_t get_u16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static inline uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}
static inline uint64_t get_u64(const uint8_t *at) { return get_u32(at) | (uint64_t)get_u32(at + 4) << 32; }
static inline int32_t get_i32(const uint8_t *at) { return (int32_t)get_u32(at); }
static inline double get_f64(const uint8_t *at) {
    union { uint64_t bits; double value; } both;
    both.bits = get_u64(at);
    return both.value;
}

static inline void put_u8(uint8_t *at, uint8_t value) { at[0] = value; }
static inline void put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}
static inline void put_u32(uint8_t *at, uint32_t value) {
    put_u16(at, (uint16_t)value);
    put_u16(at + 2, (uint16_t)(value >> 16));
}
static inline void put_u64(uint8_t *at, uint64_t value) {
    put_u32(at, (uint32_t)value);
    put_u32(at + 4, (uint32_t)(value >> 32));
}
static inline void put_i32(uint8_t *at, int32_t value) { put_u32(at, (uint32_t)value); }
static inline void put_f64(uint8_t *at, double value) {
    union { uint64_t bits; double value; } both;
    both.value = value;
    put_u64(at, both.bits);
}

#endif
