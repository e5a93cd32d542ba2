#include "handlers.h"

enum work refuse(struct job *job, uint16_t code, const char *text, double value, double limit) {
    job->refusal = (struct refusal){code, text, value, limit};
    return WORK_REFUSED;
}
