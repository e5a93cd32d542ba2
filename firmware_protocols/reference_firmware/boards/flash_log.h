/* Memory without power over a flash whose sectors are large, as of most Cortex-M7: two sectors, of which one holds the
 * memory as it once was and a log of the writes since. A write is there whole or not at all, whenever the power fails. */
#ifndef FLASH_LOG_H
#define FLASH_LOG_H

#include "../nonvolatile/memory.h"

#define FLASH_WORD 32u /* bytes that the flash programs at once, and never again before they are erased */

#ifndef FLASH_SECTOR /* bytes; the memory fits it, and some writes after it */
#define FLASH_SECTOR 131072u
#endif

/* --- of the board; sectors are 0 and 1 --------------------------------------------------------------------------- */

bool flash_read(uint32_t sector, uint32_t at, uint8_t word[FLASH_WORD]); /* false: a word that was cut while it was written */
void flash_program(uint32_t sector, uint32_t at, const uint8_t word[FLASH_WORD]);
void flash_erase(uint32_t sector); /* may return before it is done; what comes next waits for it */

/* --- of the log; memory_at and memory_write are its other verbs ---------------------------------------------------- */

void flash_log_start(void); /* first: reads the memory back */

#endif
