/* Sizes that a board chooses at build time (-DMAX_MESSAGE=…); everything is allocated once, from them. */
#ifndef LIMITS_H
#define LIMITS_H

#include "../generated/protocol.h"

#ifndef LINK_PAYLOAD /* longest payload of a frame, bytes */
#define LINK_PAYLOAD 512
#endif
#ifndef LINK_WINDOW /* frames held out of order and in flight; a power of two */
#define LINK_WINDOW 16
#endif
#ifndef LINK_SILENCE_US /* after which a host that owes an acknowledgement is lost, at most that of the protocol */
#define LINK_SILENCE_US SILENCE_US
#endif
#ifndef MAX_MESSAGE /* longest request and longest reply, bytes */
#define MAX_MESSAGE 32768
#endif
#ifndef JOBS_WAITING /* requests that wait; a host of this protocol keeps at most 15 open */
#define JOBS_WAITING 16
#endif
#ifndef LAYER_BYTES /* room for all loaded layers, bytes */
#define LAYER_BYTES 65536
#endif
#ifndef LAYER_OUTPUTS /* most outputs of one loaded layer */
#define LAYER_OUTPUTS 256
#endif
#ifndef PLAN_WORDS /* longest plan, words of 32 bits; 0: no plans */
#define PLAN_WORDS 16384
#endif
#ifndef PLAN_VALUES /* most values of a plan */
#define PLAN_VALUES 256
#endif
#ifndef PLAN_STEPS /* most steps of a plan */
#define PLAN_STEPS 256
#endif
#ifndef PLAN_MEMORY /* room for the values of a plan that live at once, bytes */
#define PLAN_MEMORY 65536
#endif
#ifndef PACKED_BODIES /* whether bodies of messages may be packed, for slow lines; 0: they are not */
#define PACKED_BODIES 1
#endif
#ifndef MEMORY_BYTES /* kept without power: journal, program image, counters of authority; 0: none of them */
#define MEMORY_BYTES (1 << 20)
#endif
#ifndef MEMORY_PAGE /* bytes that one write may damage when the power fails on the way */
#define MEMORY_PAGE 1
#endif
#ifndef JOURNAL_SLOTS /* of the journal; 17 hold all replies that a host may still ask for, 2 are the least */
#define JOURNAL_SLOTS (CACHED_REPLIES + 1)
#endif
#ifndef JOURNAL_REPLY /* longest reply that the journal holds, bytes */
#define JOURNAL_REPLY (MAX_MESSAGE < 1 << 18 ? MAX_MESSAGE : 1 << 18)
#endif
#ifndef NOT_CLEARED /* an attribute for what a restart of the firmware leaves as it is: cells of a die model, wear */
#define NOT_CLEARED
#endif

/* C99 has no static assertion: an array of length −1 stops the compiler. */
typedef char payloads_are_64_to_4096_bytes[LINK_PAYLOAD >= PAYLOAD_MIN && LINK_PAYLOAD <= PAYLOAD_MAX ? 1 : -1];
typedef char windows_are_1_to_32_frames[LINK_WINDOW >= 1 && LINK_WINDOW <= WINDOW_MAX ? 1 : -1];
typedef char windows_are_powers_of_two[(LINK_WINDOW & (LINK_WINDOW - 1)) == 0 ? 1 : -1]; /* numbers may wrap */
typedef char journals_have_2_to_32_slots[JOURNAL_SLOTS >= 2 && JOURNAL_SLOTS <= 32 ? 1 : -1];
typedef char messages_are_1_kib_to_16_mib[MAX_MESSAGE >= 1024 && MAX_MESSAGE <= 1 << 24 ? 1 : -1];

/* Bytes of one encoded frame at most, both delimiters included. */
#define FRAME_RAW (LINK_PAYLOAD + FRAME_OVERHEAD)
#define FRAME_ENCODED (FRAME_RAW + FRAME_RAW / 254 + 3)

#endif
