/* The program image: a row of PROGRAM_TILE messages, each after its length u32, kept without power. */
#ifndef IMAGES_H
#define IMAGES_H

#include "../core/handlers.h"

void images_start(void);
uint32_t images_room(void); /* longest image, bytes; 0: no room for any */

/* IMAGE_BEGIN, IMAGE_CHUNK, IMAGE_STATUS, IMAGE_COMMIT. */
enum work images_work(struct job *job);

/* Reads the PROGRAM_TILE that an IMAGE_TILE names, into `to`, under the id of the request. */
enum work images_tile(struct job *job, struct request *to);

#endif
