/* A library with the calls of a B1530A that orders name: it writes each to WGFMU_LOG, and measures 2.5 uA. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *trouble = "";

static int called(const char *text)
{
    FILE *log = fopen(getenv("WGFMU_LOG"), "a");
    fprintf(log, "%s\n", text);
    fclose(log);
    return 0;
}

#define CALL(...)                                        \
    do {                                                 \
        char text[200];                                  \
        snprintf(text, sizeof text, __VA_ARGS__);        \
        return called(text);                             \
    } while (0)

int WGFMU_openSession(const char *address) { CALL("openSession %s", address); }
int WGFMU_closeSession(void) { CALL("closeSession"); }
int WGFMU_setOperationMode(int channel, int mode) { CALL("setOperationMode %d %d", channel, mode); }
int WGFMU_setMeasureMode(int channel, int mode) { CALL("setMeasureMode %d %d", channel, mode); }
int WGFMU_setMeasureCurrentRange(int channel, int range) { CALL("setMeasureCurrentRange %d %d", channel, range); }
int WGFMU_connect(int channel) { CALL("connect %d", channel); }
int WGFMU_disconnect(int channel) { CALL("disconnect %d", channel); }
int WGFMU_clear(void) { CALL("clear"); }
int WGFMU_createPattern(const char *name, double volts) { CALL("createPattern %s %g", name, volts); }
int WGFMU_addVector(const char *name, double s, double volts) { CALL("addVector %s %g %g", name, s, volts); }
int WGFMU_addSequence(int channel, const char *name, double loops) { CALL("addSequence %d %s %g", channel, name, loops); }
int WGFMU_execute(void) { CALL("execute"); }

int WGFMU_getStatus(int *status, double *elapsed, double *total)
{
    *status = 10000;
    *elapsed = *total = 1e-6;
    CALL("getStatus");
}

int WGFMU_dcforceVoltage(int channel, double volts)
{
    if (volts > 10.0) {
        trouble = "voltage out\nof range";
        return -1;
    }
    CALL("dcforceVoltage %d %g", channel, volts);
}

int WGFMU_dcmeasureAveragedValue(int channel, int count, int interval, double *value)
{
    *value = 2.5e-6;
    CALL("dcmeasureAveragedValue %d %d %d", channel, count, interval);
}

int WGFMU_getErrorSize(int *size)
{
    *size = (int)strlen(trouble);
    return 0;
}

int WGFMU_getError(char *text, int *size)
{
    memcpy(text, trouble, (size_t)*size);
    return 0;
}
