#include "images.h"

#include "memory.h"
#include "sha256.h"

#pragma GCC optimize("Os") /* small before fast */

#if MEMORY_BYTES

#define THERE 0x5Au /* the mark of what has been written */
#define HEAD_SLOT PAGED(WIRE_SLOT_SIZE + DIGEST_BYTES + WIRE_LENGTH_SIZE)
#define WHOLE_AT (IMAGE_AT + 2u * HEAD_SLOT)
#define MARKS_AT (WHOLE_AT + MEMORY_PAGE)
#define SPACE (MEMORY_BYTES - 2u * MEMORY_PAGE - MARKS_AT) /* of marks and chunks */
#define CHUNKS (SPACE / (IMAGE_CHUNK_BYTES + 1u))
#define DATA_AT PAGED(MARKS_AT + CHUNKS)
#define SLICE 4096u

typedef char the_journal_fits_the_memory[MARKS_AT + 2u * MEMORY_PAGE <= MEMORY_BYTES ? 1 : -1];

static struct slot_ring ring;
static struct sha256 hash; /* of the image that is being compared */
static uint8_t digest[DIGEST_BYTES];
static uint32_t length;

static uint32_t chunks_of(uint32_t size) { return size / IMAGE_CHUNK_BYTES + (size % IMAGE_CHUNK_BYTES != 0); }
static bool is_there(uint32_t chunk) { return *memory_at(MARKS_AT + chunk) == THERE; }
static bool complete(void) { return length && *memory_at(WHOLE_AT) == THERE; }

void images_start(void) {
    uint32_t size;
    length = 0;
    memset(digest, 0, sizeof digest);
    slots_open(&ring, IMAGE_AT, 2, HEAD_SLOT);
    if (!ring.held) return;
    const uint8_t *record = slots_record(&ring, ring.held - 1u, &size);
    memcpy(digest, record, DIGEST_BYTES);
    length = get_u32(record + DIGEST_BYTES);
}

uint32_t images_room(void) { return CHUNKS * IMAGE_CHUNK_BYTES; }

static void forget(void) {
    static const uint8_t NOTHING = 0;
    memory_write(WHOLE_AT, &NOTHING, 1);
    for (uint32_t i = 0; i < chunks_of(length); i++) {
        if (is_there(i)) memory_write(MARKS_AT + i, &NOTHING, 1);
    }
}

static enum work state(struct job *job) {
    const struct wire_image_state fixed = {length, images_room(), complete()};
    const uint32_t chunks = chunks_of(length);
    reply_begin(job->reply, OP_IMAGE_STATE, job->request->id, 0);
    uint8_t *at = reply_room(job->reply, DIGEST_BYTES + WIRE_IMAGE_STATE_SIZE + (chunks + 7) / 8);
    if (!at) return WORK_DONE;
    memcpy(at, digest, DIGEST_BYTES);
    wire_put_image_state(at + DIGEST_BYTES, &fixed);
    uint8_t *bits = at + DIGEST_BYTES + WIRE_IMAGE_STATE_SIZE;
    memset(bits, 0, (chunks + 7) / 8);
    for (uint32_t i = 0; i < chunks; i++) {
        if (is_there(i)) bits[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return WORK_DONE;
}

static enum work done(struct job *job) {
    reply_begin(job->reply, OP_DONE, job->request->id, 0);
    return WORK_DONE;
}

static enum work begin(struct job *job) {
    const uint32_t size = job->request->length;
    if (!size || size > images_room()) return refuse(job, ERROR_LIMIT, "bytes of a program image", size, images_room());
    if (size != length || memcmp(job->request->digest, digest, DIGEST_BYTES)) {
        uint8_t words[WIRE_LENGTH_SIZE];
        put_u32(words, size);
        forget();
        slots_add(&ring, job->request->digest, DIGEST_BYTES, words, sizeof words);
        memcpy(digest, job->request->digest, DIGEST_BYTES);
        length = size;
    }
    return state(job);
}

static enum work take(struct job *job) {
    static const uint8_t MARK = THERE;
    const struct wire_ints *piece = &job->request->values;
    const uint32_t offset = job->request->length;
    if (piece->count > length || offset > length - piece->count) {
        return refuse(job, ERROR_OUT_OF_RANGE, "bytes beyond the program image", (int64_t)offset + piece->count, length);
    }
    const uint32_t end = offset + piece->count;
    if (offset % IMAGE_CHUNK_BYTES || (end % IMAGE_CHUNK_BYTES && end != length)) {
        return refuse(job, ERROR_OUT_OF_RANGE, "an image comes in whole chunks", offset, IMAGE_CHUNK_BYTES);
    }
    for (uint32_t at = offset; at < end; at += IMAGE_CHUNK_BYTES) {
        if (is_there(at / IMAGE_CHUNK_BYTES)) continue;
        memory_write(DATA_AT + at, piece->data + (at - offset), end - at < IMAGE_CHUNK_BYTES ? end - at : IMAGE_CHUNK_BYTES);
        memory_write(MARKS_AT + at / IMAGE_CHUNK_BYTES, &MARK, 1);
    }
    return done(job);
}

/* Compares the digest, a slice at a time. */
static enum work commit(struct job *job) {
    static const uint8_t MARK = THERE;
    uint8_t found[DIGEST_BYTES];
    if (!job->step) {
        if (!length || memcmp(job->request->digest, digest, DIGEST_BYTES)) {
            return refuse(job, ERROR_OUT_OF_RANGE, "no image of this digest was begun", 0, 0);
        }
        for (uint32_t i = 0; i < chunks_of(length); i++) {
            if (!is_there(i)) return refuse(job, ERROR_OUT_OF_RANGE, "chunks are missing", i, chunks_of(length));
        }
        sha256_start(&hash);
    }
    const uint32_t size = length - job->step < SLICE ? length - job->step : SLICE;
    sha256_add(&hash, memory_at(DATA_AT + job->step), size);
    job->step += size;
    if (job->step < length) return WORK_MORE;
    sha256_end(&hash, found);
    if (memcmp(found, digest, DIGEST_BYTES)) {
        forget();
        return refuse(job, ERROR_MALFORMED, "the image has another digest than it was begun with; send it again", 0, 0);
    }
    memory_write(WHOLE_AT, &MARK, 1);
    return done(job);
}

enum work images_work(struct job *job) {
    switch (job->request->op) {
    case OP_IMAGE_BEGIN: return begin(job);
    case OP_IMAGE_CHUNK: return take(job);
    case OP_IMAGE_COMMIT: return commit(job);
    default: return state(job);
    }
}

enum work images_tile(struct job *job, struct request *to) {
    const uint32_t offset = job->request->length;
    const uint16_t id = job->request->id;
    if (!complete() || memcmp(job->request->digest, digest, DIGEST_BYTES)) {
        return refuse(job, ERROR_OUT_OF_RANGE, "this image is not held", 0, 0);
    }
    if (length < WIRE_LENGTH_SIZE || offset > length - WIRE_LENGTH_SIZE) {
        return refuse(job, ERROR_OUT_OF_RANGE, "no tile there in the image", offset, length);
    }
    const uint8_t *at = memory_at(DATA_AT + offset);
    const uint32_t size = get_u32(at);
    struct request tile;
    if (size > length - offset - WIRE_LENGTH_SIZE || request_read(at + WIRE_LENGTH_SIZE, size, &tile) != READ_WELL ||
        tile.op != OP_PROGRAM_TILE) {
        return refuse(job, ERROR_MALFORMED, "no PROGRAM_TILE stands there in the image", offset, length);
    }
    *to = tile;
    to->id = id;
    return WORK_DONE;
}

#endif
