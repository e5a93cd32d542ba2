#include "authority.h"

#include "memory.h"
#include "sha256.h"

#pragma GCC optimize("Os") /* small before fast */

#if MEMORY_BYTES

#define OPTION_HEAD WIRE_OPTION_SIZE
#define COUNTER_BYTES 8u

static struct {
    struct slot_ring ring;
    struct wire_authority_record now, kept; /* kept: what the memory says, ahead of its use */
    uint64_t locked_until_us, epoch;
    uint8_t nonce[NONCE_BYTES], session[KEY_BYTES];
    uint8_t level;
    bool challenged, lock_runs;
} own;

bool authority_wanted(void) { return board_key() != NULL; }

void authority_drop(void) {
    own.level = LEVEL_OBSERVE;
    own.challenged = false;
    memset(own.session, 0, sizeof own.session);
}

void authority_start(void) {
    uint32_t size;
    memset(&own, 0, sizeof own);
    if (authority_wanted()) own.epoch = board_epoch();
    slots_open(&own.ring, 0, 2, AUTHORITY_SLOT);
    if (own.ring.held) wire_get_authority_record(slots_record(&own.ring, own.ring.held - 1u, &size), &own.now);
    /* A counter that no host goes on from is a forger's. It may begin anew: no key of a session comes twice. */
    if (own.now.counter > (uint64_t)1 << AUTHORITY_COUNTER_SHIFT) own.now.counter = 0;
    own.kept = own.now;
}

/* Writes the numbers when those that are kept do not cover them. */
static void keep(bool at_once) {
    uint8_t record[WIRE_AUTHORITY_RECORD_SIZE];
    if (!at_once && own.now.counter < own.kept.counter && own.now.challenges < own.kept.challenges) return;
    own.kept = own.now;
    own.kept.counter += AUTHORITY_AHEAD;
    own.kept.challenges += AUTHORITY_AHEAD;
    wire_put_authority_record(record, &own.kept);
    slots_add(&own.ring, record, 0, record, sizeof record);
}

/* --- the four kinds of MAC --------------------------------------------------------------------------------- */

static void level_key(uint8_t level, uint8_t key[32]) {
    struct hmac h;
    hmac_start(&h, board_key());
    hmac_add(&h, "level", 5);
    hmac_add(&h, &level, 1);
    hmac_end(&h, key);
}

static void claim(const char *word, uint32_t size, uint8_t level, uint32_t host, uint8_t mac[32]) {
    struct hmac h;
    uint8_t key[32], words[5] = {level};
    level_key(level, key);
    put_u32(words + 1, host);
    hmac_start(&h, key);
    hmac_add(&h, word, size);
    hmac_add(&h, own.nonce, NONCE_BYTES);
    hmac_add(&h, words, sizeof words);
    hmac_end(&h, mac);
}

/* --- requests ------------------------------------------------------------------------------------------------ */

static enum work challenge(struct job *job) {
    struct hmac h;
    uint8_t number[8], mac[32];
    own.now.challenges++;
    keep(false);
    hmac_start(&h, board_key());
    hmac_add(&h, "nonce", 5);
    put_u64(number, own.epoch);
    hmac_add(&h, number, sizeof number);
    put_u64(number, own.now.challenges);
    hmac_add(&h, number, sizeof number);
    hmac_end(&h, mac);
    memcpy(own.nonce, mac, NONCE_BYTES);
    own.challenged = true;
    const uint8_t left = own.now.failures < AUTHORITY_TRIES ? (uint8_t)(AUTHORITY_TRIES - own.now.failures) : 0;
    const struct wire_challenged fixed = {own.now.counter, own.level, left};
    reply_begin(job->reply, OP_CHALLENGED, job->request->id, 0);
    uint8_t *at = reply_room(job->reply, NONCE_BYTES + WIRE_CHALLENGED_SIZE);
    if (!at) return WORK_DONE;
    memcpy(at, own.nonce, NONCE_BYTES);
    wire_put_challenged(at + NONCE_BYTES, &fixed);
    return WORK_DONE;
}

static uint64_t lock_us(void) {
    const uint32_t over = own.now.failures - AUTHORITY_TRIES;
    const uint64_t wanted = (uint64_t)LOCK_US << (over < 16 ? over : 16);
    return wanted < LONGEST_LOCK_US ? wanted : LONGEST_LOCK_US;
}

static enum work authorise(struct job *job, uint32_t host, uint64_t now_us) {
    uint8_t mac[32];
    const uint8_t level = job->request->authorise.level;
    if (own.now.failures >= AUTHORITY_TRIES) {
        if (!own.lock_runs) own.locked_until_us = now_us + lock_us(); /* restarted meanwhile: the whole time again */
        own.lock_runs = true;
        if (now_us < own.locked_until_us) {
            const uint32_t left_s = (uint32_t)((own.locked_until_us - now_us) / 1000000u) + 1;
            return refuse(job, ERROR_NOT_AUTHORISED, "locked after wrong keys, for so many seconds more", left_s, 0);
        }
    }
    if (!own.challenged) return refuse(job, ERROR_NOT_AUTHORISED, "a challenge comes first", 0, 0);
    own.challenged = false;
    claim("prove", 5, level, host, mac);
    if (!same_secret(mac, job->request->proof, PROOF_BYTES)) {
        if (own.now.failures < UINT16_MAX) own.now.failures++;
        if (own.now.failures >= AUTHORITY_TRIES) own.locked_until_us = now_us + lock_us();
        own.lock_runs = true;
        keep(true);
        return refuse(job, ERROR_NOT_AUTHORISED, "wrong key", own.now.failures, AUTHORITY_TRIES);
    }
    if (own.now.failures) {
        own.now.failures = 0;
        keep(true);
    }
    claim("session", 7, level, host, own.session);
    own.level = level;
    return WORK_DONE;
}

enum work authority_work(struct job *job, uint32_t host, uint64_t now_us) {
    if (job->request->op == OP_CHALLENGE) return challenge(job);
    if (job->request->op == OP_DROP_AUTHORITY) authority_drop();
    else if (authorise(job, host, now_us) != WORK_DONE) return WORK_REFUSED;
    reply_begin(job->reply, OP_DONE, job->request->id, 0);
    return WORK_DONE;
}

/* --- seals ----------------------------------------------------------------------------------------------------- */

static uint8_t level_of(uint8_t op) {
    switch (op) {
    case OP_READ_CELLS:
    case OP_MVM:
    case OP_SWEEP:
    case OP_LOAD_LAYER:
    case OP_LOAD_PLAN:
    case OP_RUN_PLAN:
    case OP_WAIT: return LEVEL_RUN;
    case OP_PROGRAM_TILE:
    case OP_HOLD_PROGRAM:
    case OP_RESET:
    case OP_IMAGE_BEGIN:
    case OP_IMAGE_CHUNK:
    case OP_IMAGE_COMMIT:
    case OP_IMAGE_TILE: return LEVEL_PROGRAM;
    case OP_PULSE: return LEVEL_SERVICE;
    default: return LEVEL_OBSERVE;
    }
}

static bool not_allowed(struct refusal *to, const char *text, int64_t value, int64_t limit) {
    *to = (struct refusal){ERROR_NOT_AUTHORISED, text, value, limit};
    return false;
}

bool authority_allows(const struct request *request, const uint8_t *data, uint32_t size, uint64_t *counter,
                      struct refusal *refusal) {
    const uint8_t level = level_of(request->op);
    struct wire_option option = {0};
    struct hmac h;
    uint8_t mac[32];
    *counter = 0;
    if (level > own.level) return not_allowed(refusal, "a higher level is needed", level, own.level);
    if (level < LEVEL_PROGRAM) return true;
    const uint8_t *seal = size > SEALED_BYTES ? data + (size - SEALED_BYTES) : data;
    if (seal != data) wire_get_option(seal, &option);
    if (option.kind != SEAL_KIND || option.size != SEALED_BYTES - OPTION_HEAD) {
        return not_allowed(refusal, "the message bears no seal", 0, 0);
    }
    hmac_start(&h, own.session);
    hmac_add(&h, seal + OPTION_HEAD, COUNTER_BYTES);
    hmac_add(&h, data, size - SEALED_BYTES);
    hmac_end(&h, mac);
    if (!same_secret(mac, seal + OPTION_HEAD + COUNTER_BYTES, MAC_BYTES)) {
        return not_allowed(refusal, "the seal is wrong", 0, 0);
    }
    *counter = get_u64(seal + OPTION_HEAD);
    return true;
}

enum work authority_take(struct job *job, uint64_t counter) {
    if (!counter) return WORK_DONE;
    if (counter <= own.now.counter) {
        return refuse(job, ERROR_NOT_AUTHORISED, "this counter was used before", (uint32_t)counter,
                      (uint32_t)own.now.counter);
    }
    if (counter - own.now.counter > AUTHORITY_STEP) {
        return refuse(job, ERROR_NOT_AUTHORISED, "this counter is too far ahead, as after a forged CHALLENGED",
                      (uint32_t)counter, AUTHORITY_STEP);
    }
    own.now.counter = counter;
    keep(false);
    return WORK_DONE;
}

#endif
