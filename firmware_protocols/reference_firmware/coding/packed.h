/* Packed bodies of messages (docs/file-formats.md, Packed bodies). */
#ifndef PACKED_H
#define PACKED_H

#include "../core/bytes.h"

enum { FLAG_PACKED = 1, FLAG_ANSWER_PACKED = 2 }; /* of a message */

/* Bytes of the message unpacked, with its head, or 0 where its body is no code or longer than `room` allows. */
uint32_t packed_read(const uint8_t *message, uint32_t size, uint8_t *to, uint32_t room);

/* Packs the body of a message in place where that is shorter, with room for its code elsewhere; the size that it has then. */
uint32_t packed_write(uint8_t *message, uint32_t size, uint8_t *elsewhere, uint32_t room);

#endif
