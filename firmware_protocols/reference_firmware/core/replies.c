#include "replies.h"

#pragma GCC optimize("Os") /* small before fast */

/* Two places more than replies: one is being written, one serves refusals. Places change roles, bytes never move. */
static struct {
    uint8_t bytes[CACHED_REPLIES + 2][REPLY_ROOM];
    struct kept_reply { uint8_t place; uint16_t id; uint32_t size; } kept[CACHED_REPLIES]; /* oldest at `first` */
    uint32_t first;
    uint8_t building, spare;
} replies;

void replies_start(void) {
    for (uint32_t i = 0; i < CACHED_REPLIES; i++) {
        replies.kept[i].place = (uint8_t)i;
        replies.kept[i].id = 0;
        replies.kept[i].size = 0;
    }
    replies.first = 0;
    replies.building = CACHED_REPLIES;
    replies.spare = CACHED_REPLIES + 1;
}

struct reply replies_building(void) { return (struct reply){replies.bytes[replies.building], REPLY_ROOM, 0}; }

struct reply replies_spare(void) { return (struct reply){replies.bytes[replies.spare], REPLY_ROOM, 0}; }

static uint32_t at(uint32_t turn) { return (replies.first + turn) % CACHED_REPLIES; } /* 0: the oldest */

static void becomes_oldest(uint32_t turn) {
    const struct kept_reply it = replies.kept[at(turn)];
    for (; turn > 0; turn--) replies.kept[at(turn)] = replies.kept[at(turn - 1)];
    replies.kept[replies.first] = it;
}

/* Of replies beside the requests in turn the oldest goes first, where there are two: a host that opens its session again
   and again asks beside them each time, and may wait for any 15 in turn. */
static void one_aside_goes_first(uint16_t id) {
    uint32_t beside = id >= ASIDE_IDS, oldest = 0;
    for (uint32_t turn = CACHED_REPLIES; turn-- > 0;) {
        if (replies.kept[at(turn)].id >= ASIDE_IDS) beside++, oldest = turn;
    }
    if (beside > 1) becomes_oldest(oldest);
}

uint8_t *replies_keep(struct send_window *send, uint16_t id, const struct reply *reply) {
    /* A host within its credit of 15 has taken the oldest; of another one, a half sent reply stays for one turn. */
    one_aside_goes_first(id);
    for (uint32_t turn = 0; turn < 2; turn++) {
        const uint32_t i = (replies.first + turn) % CACHED_REPLIES;
        if (!send_drop(send, replies.bytes[replies.kept[i].place])) continue;
        uint8_t *role = reply->data == replies.bytes[replies.building] ? &replies.building : &replies.spare;
        const uint8_t written = *role;
        *role = replies.kept[i].place;
        if (turn) replies.kept[i] = replies.kept[replies.first]; /* the half sent one is the second oldest now */
        replies.kept[replies.first].place = written;
        replies.kept[replies.first].id = id;
        replies.kept[replies.first].size = reply->size;
        replies.first = (replies.first + 1) % CACHED_REPLIES;
        return replies.bytes[written];
    }
    return NULL;
}

void replies_restore(uint16_t id, const uint8_t *data, uint32_t size) {
    const uint32_t i = replies.first;
    if (size > REPLY_ROOM) return;
    memcpy(replies.bytes[replies.kept[i].place], data, size);
    replies.kept[i].id = id;
    replies.kept[i].size = size;
    replies.first = (i + 1) % CACHED_REPLIES;
}

struct reply replies_find(uint16_t id) {
    for (uint32_t turn = 0; id && turn < CACHED_REPLIES; turn++) {
        if (replies.kept[at(turn)].id != id) continue;
        becomes_oldest(turn); /* and, one turn on, the newest: its host waits for it, whatever is asked anew before it */
        replies.first = at(1);
        const struct kept_reply *found = &replies.kept[at(CACHED_REPLIES - 1)];
        return (struct reply){replies.bytes[found->place], REPLY_ROOM, found->size};
    }
    return (struct reply){NULL, 0, 0};
}
