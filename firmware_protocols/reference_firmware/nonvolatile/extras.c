#include "extras.h"

#include "authority.h"
#include "images.h"
#include "journal.h"
#include "memory.h"

#pragma GCC optimize("Os") /* small before fast */

uint32_t extras_needs(uint8_t op) {
    switch (op) {
    case OP_JOURNAL: return CAN_JOURNAL;
    case OP_IMAGE_TILE: return CAN_IMAGES | CAN_PROGRAM_TILE;
    case OP_IMAGE_BEGIN:
    case OP_IMAGE_CHUNK:
    case OP_IMAGE_STATUS:
    case OP_IMAGE_COMMIT: return CAN_IMAGES;
    case OP_CHALLENGE:
    case OP_AUTHORISE:
    case OP_DROP_AUTHORITY: return CAN_AUTHORITY;
    default: return 0;
    }
}

#if MEMORY_BYTES

uint64_t extras_start(void) {
    authority_start();
    images_start();
    return journal_start();
}

void extras_greet(uint32_t nonce) {
    authority_drop();
    journal_recall(nonce);
}

uint32_t extras_capabilities(void) {
    return CAN_JOURNAL | (images_room() ? CAN_IMAGES : 0u) | (authority_wanted() ? CAN_AUTHORITY : 0u);
}

enum work extras_work(struct job *job, uint32_t host, uint64_t now_us) {
    if (extras_needs(job->request->op) == CAN_AUTHORITY) return authority_work(job, host, now_us);
    if (job->request->op != OP_JOURNAL) return images_work(job);
    journal_state(job);
    return WORK_DONE;
}

enum work extras_tile(struct job *job, struct request *to) { return images_tile(job, to); }

bool extras_allow(const struct request *request, const uint8_t *data, uint32_t size, uint64_t *counter, struct refusal *why) {
    return !authority_wanted() || authority_allows(request, data, size, counter, why);
}

enum work extras_take(struct job *job, uint64_t counter) {
    return authority_wanted() ? authority_take(job, counter) : WORK_DONE;
}

void extras_done(uint32_t host, uint16_t id, uint8_t op, const struct reply *reply) {
    if (journal_keeps(op)) journal_add(host, id, op, reply);
}

#endif
