/* A network that flies: the plan and the layers of a run, executed on a macro without the link. Nothing is allocated, no
 * function calls itself, and each call of `hil_step` ends after one slice. */
#ifndef HIL_PAYLOAD_H
#define HIL_PAYLOAD_H

#include "../core/macro.h"

#ifndef HIL_ECC /* 0: stored words are taken as they are */
#define HIL_ECC 1
#endif
#ifndef HIL_GOLDEN /* 0: no golden vectors */
#define HIL_GOLDEN 1
#endif
#ifndef HIL_REGISTERS /* 0: a read whose registers were struck is not repeated */
#define HIL_REGISTERS 1
#endif

enum { HIL_GROUP = 9 }; /* words of the store that are written together (onboard/stored.h) */

/* What the board gives. */
struct hil_board {
    /* One read (core/macro.h); NULL: every voltage off. False: its registers do not read back as they were written. */
    bool (*macro)(const struct array_read *read, int16_t *codes);
    /* Reads or writes words of three slots of SLOT_WORDS, of which the last is never written. False: it cannot. */
    bool (*store)(uint32_t first, uint32_t count, uint32_t *words, bool write);
    void (*log)(const char *text, int64_t value); /* why something was refused */
    uint64_t (*time)(void);                       /* microseconds that never run backwards */
};

enum hil_state { HIL_MORE, HIL_DONE, HIL_REFUSED };

/* Since power on: images that were done, golden ones too; what was refused; golden vectors that were off; pairs of stored
 * words of which a bit was turned back, pairs that were lost; reads that were repeated. And the number of the update that runs. */
extern struct hil_counts {
    uint32_t images, refused, golden, mended, lost, registers, update;
} hil_counts;

/* Begins to read the newest whole network from the store, else the golden image; `hil_load` does it, a slice a call. */
void hil_start(const struct hil_board *board);
enum hil_state hil_load(void); /* HIL_REFUSED: every voltage is off */

uint32_t hil_image_bytes(void); /* of one image: height x width x channels, one byte each */
uint32_t hil_logits(void);

/* Room for an image in the memory of the network, until `hil_step` is first called on it: a board needs no other. */
uint8_t *hil_room(void);

/* An image, in place until `hil_step` is first called. `sample` numbers its noise for a die model; a board ignores it. */
void hil_begin(const uint8_t *pixels, uint64_t sample);

/* Works on the image for one slice: call it until it gives no HIL_MORE, and serve the watchdog between two calls. */
enum hil_state hil_step(void);

int32_t hil_logit(uint32_t number); /* of the image that is done */

/* Runs the golden vectors, a slice a call, as `hil_step` does. HIL_REFUSED: they answer further off than noise does. */
enum hil_state hil_golden(uint64_t sample);

bool hil_scrub(void); /* reads one group of stored words and mends it; true after the last */

/* An update: the first group of the new image, every group that is not as in the image that runs (in order), the end. It
 * runs from the next `hil_start` on; after a power failure on the way the old one does. One write a call: again while it is
 * HIL_MORE. */
bool hil_update_begin(const uint32_t *first);
enum hil_state hil_update_part(uint32_t number, uint32_t *words);
enum hil_state hil_update_end(void);

/* The counts as a packet of telemetry, TM[3,25] of ECSS-E-ST-70-41C; telemetry.xml describes it for the ground. */
enum { HIL_PACKET = 51 };
void hil_housekeeping(uint16_t apid, uint16_t destination, uint8_t *packet);

#endif
