#include "flash_log.h"

#include "../core/frame.h"

/* Erased bytes are 0xFF. A record is its head in one word, with the first bytes of what was written, and further words. */
#define RECORD 0x57u
#define SECTOR_HEAD 0x48u
#define HEAD_BYTES 16u
#define IN_HEAD (FLASH_WORD - HEAD_BYTES)

typedef char the_memory_and_some_writes_fit_a_sector[MEMORY_BYTES + MEMORY_BYTES / 4 + 4 * FLASH_WORD <= FLASH_SECTOR ? 1 : -1];

static uint8_t mirror[MEMORY_BYTES];
static uint32_t active, end, generation; /* end: of the log in the active sector */
static bool other_is_erased;

static uint32_t words_of(uint32_t size) { return 1 + (size > IN_HEAD ? (size - IN_HEAD + FLASH_WORD - 1) / FLASH_WORD : 0); }

static uint32_t check_of(uint32_t kind, uint32_t at, uint32_t size, const uint8_t *data) {
    uint8_t head[12];
    put_u32(head, kind);
    put_u32(head + 4, at);
    put_u32(head + 8, size);
    return crc32c(crc32c(0, head, sizeof head), data, size);
}

/* Programs a record behind `place`; gives the place behind it. */
static uint32_t append(uint32_t sector, uint32_t place, uint32_t kind, uint32_t at, const uint8_t *data, uint32_t size) {
    uint8_t word[FLASH_WORD];
    for (uint32_t i = 0, done = 0; i < words_of(size); i++, place += FLASH_WORD) {
        const uint32_t from = i ? 0 : HEAD_BYTES;
        const uint32_t part = size - done < FLASH_WORD - from ? size - done : FLASH_WORD - from;
        memset(word, 0xFF, sizeof word);
        if (!i) {
            put_u32(word, kind);
            put_u32(word + 4, at);
            put_u32(word + 8, size);
            put_u32(word + 12, check_of(kind, at, size, data));
        }
        memcpy(word + from, data + done, part);
        done += part;
        flash_program(sector, place, word);
    }
    return place;
}

enum found { RECORD_WHOLE, RECORD_BROKEN, RECORD_NONE };

/* The record at `place`: its data go to `room` (the mirror, or nothing), after they were checked. */
static enum found look(uint32_t sector, uint32_t place, uint32_t kind, uint32_t *at, uint32_t *size) {
    uint8_t word[FLASH_WORD];
    if (!flash_read(sector, place, word)) return RECORD_BROKEN;
    uint32_t used = 0;
    for (uint32_t i = 0; i < FLASH_WORD; i++) used |= word[i] != 0xFF;
    if (!used) return RECORD_NONE;
    *at = get_u32(word + 4);
    *size = get_u32(word + 8);
    if (get_u32(word) != kind || *size > MEMORY_BYTES || *at > MEMORY_BYTES - *size) return RECORD_BROKEN;
    if (place + words_of(*size) * FLASH_WORD > FLASH_SECTOR) return RECORD_BROKEN;
    uint8_t head[12];
    memcpy(head, word, sizeof head);
    const uint32_t check = get_u32(word + 12);
    uint32_t found = crc32c(0, head, sizeof head);
    for (uint32_t i = 0, done = 0; i < words_of(*size); i++) {
        const uint32_t from = i ? 0 : HEAD_BYTES;
        const uint32_t part = *size - done < FLASH_WORD - from ? *size - done : FLASH_WORD - from;
        if (!flash_read(sector, place + i * FLASH_WORD, word)) return RECORD_BROKEN;
        found = crc32c(found, word + from, part);
        done += part;
    }
    return found == check ? RECORD_WHOLE : RECORD_BROKEN;
}

static void copy(uint32_t sector, uint32_t place, uint32_t at, uint32_t size) {
    uint8_t word[FLASH_WORD];
    for (uint32_t i = 0, done = 0; i < words_of(size); i++) {
        const uint32_t from = i ? 0 : HEAD_BYTES;
        const uint32_t part = size - done < FLASH_WORD - from ? size - done : FLASH_WORD - from;
        flash_read(sector, place + i * FLASH_WORD, word);
        memcpy(mirror + at + done, word + from, part);
        done += part;
    }
}

/* Writes the memory as it is into the other sector, whose head comes last: until then the active one counts. */
static void move(void) {
    const uint32_t other = 1 - active;
    uint8_t number[4];
    if (!other_is_erased) flash_erase(other);
    other_is_erased = false;
    end = append(other, FLASH_WORD * words_of(sizeof number), RECORD, 0, mirror, MEMORY_BYTES);
    put_u32(number, ++generation);
    append(other, 0, SECTOR_HEAD, 0, number, sizeof number);
    active = other;
    flash_erase(1 - active);
    other_is_erased = true;
}

/* Number of a sector's generation; 0: it holds no memory. */
static uint32_t generation_of(uint32_t sector) {
    uint8_t word[FLASH_WORD];
    uint32_t at, size;
    if (look(sector, 0, SECTOR_HEAD, &at, &size) != RECORD_WHOLE || size != 4) return 0;
    flash_read(sector, 0, word);
    return get_u32(word + HEAD_BYTES);
}

void flash_log_start(void) {
    const uint32_t first = generation_of(0), second = generation_of(1);
    uint32_t at, size;
    memset(mirror, 0xFF, sizeof mirror);
    other_is_erased = false;
    active = second > first;
    generation = active ? second : first;
    if (!generation) {
        move();
        return;
    }
    enum found found = RECORD_NONE;
    for (end = FLASH_WORD; end < FLASH_SECTOR; end += words_of(size) * FLASH_WORD) {
        found = look(active, end, RECORD, &at, &size);
        if (found != RECORD_WHOLE) break;
        copy(active, end, at, size);
    }
    if (found == RECORD_BROKEN) move(); /* what was cut cannot be programmed again */
}

const uint8_t *memory_at(uint32_t at) { return mirror + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) {
    memcpy(mirror + at, data, size);
    if (!size) return;
    if (end + words_of(size) * FLASH_WORD <= FLASH_SECTOR) end = append(active, end, RECORD, at, mirror + at, size);
    else move();
}
