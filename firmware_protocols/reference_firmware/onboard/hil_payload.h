/* A network that flies: the plan and the layers of a run, executed on a macro without the link. Nothing is allocated, no
 * function calls itself, and each call of `hil_step` ends after one slice. */
#ifndef HIL_PAYLOAD_H
#define HIL_PAYLOAD_H

#include "../core/macro.h"

/* What the board gives. */
struct hil_board {
    void (*macro)(const struct array_read *read, int16_t *codes);   /* one read (core/macro.h); NULL: every voltage off */
    bool (*store)(uint32_t first, uint32_t count, uint32_t *words); /* words of the stored network; false: not readable */
    void (*log)(const char *text, int64_t value);                   /* why something was refused */
    uint64_t (*time)(void);                                         /* microseconds that never run backwards */
};

enum hil_state { HIL_MORE, HIL_DONE, HIL_REFUSED };

/* Reads the network from the store and checks it; false: refused. The board must outlive its use. */
bool hil_start(const struct hil_board *board);

uint32_t hil_image_bytes(void); /* of one image: height x width x channels, one byte each */
uint32_t hil_logits(void);

/* An image, which must stay in place until it is done. `sample` numbers its noise for a die model; a board ignores it. */
void hil_begin(const uint8_t *pixels, uint64_t sample);

/* Works on the image for one slice: call it until it gives no HIL_MORE, and serve the watchdog between two calls. */
enum hil_state hil_step(void);

int32_t hil_logit(uint32_t number); /* of the image that is done */

#endif
