/* The board mps2-an386 (Cortex-M4), as QEMU has it: UART by interrupts, SysTick, sleep when there is nothing to do. */
#include "../core/chip.h"
#include "../nonvolatile/memory.h"
#include "../core/server.h"
#include "../die/die.h"

#pragma GCC optimize("Os") /* small before fast */

#define CLOCK_HZ 25000000u
#define TICK_US 10000u
#define TICK_CYCLES (CLOCK_HZ / 1000000u * TICK_US)
#define RECEIVING 8192u /* a window of short frames may come at once */
#define SENDING 4096u   /* about two long frames: more would only age the link's timers */
#define PAINT 0x5EAF00D5u

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CONTROL REGISTER(0x40004008u)
#define UART_INTERRUPT REGISTER(0x4000400Cu)
#define UART_DIVISOR REGISTER(0x40004010u)
#define SYSTICK_CONTROL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define NVIC_ENABLE REGISTER(0xE000E100u)
#define COPROCESSORS REGISTER(0xE000ED88u)
#define MEMORY ((uint8_t *)0x00200000u)  /* SSRAM above the code stands for a flash: a reset leaves it */
#define KEY_PLACE ((const uint8_t *)0x00300000u) /* KEY_THERE and a key, set from outside; a real board has them in its flash */
#define KEY_THERE 0x2179654Bu
#define BOOT_WORD REGISTER(0x203FFFF0u) /* set from outside at each start, as a real board's counter in flash */

extern uint32_t load_address[], data_start[], data_end[], bss_start[], bss_end[], stack_bottom[], paint_end[], stack_top[];
static uint32_t boots __attribute__((section(".noinit"))); /* since power on */

/* Bytes between an interrupt and the loop; each index is written by one of them only. */
struct ring {
    volatile uint32_t put, got;
    uint8_t *bytes;
    uint32_t size; /* a power of two */
};

static uint8_t receiving[RECEIVING], sending[SENDING];
static struct ring from_line = {0, 0, receiving, RECEIVING}, to_line = {0, 0, sending, SENDING};
static volatile uint32_t ticks;

static uint32_t held(const struct ring *r) { return r->put - r->got; }

const uint8_t *memory_at(uint32_t at) { return MEMORY + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) { memcpy(MEMORY + at, data, size); }

const uint8_t *board_key(void) { return get_u32(KEY_PLACE) == KEY_THERE ? KEY_PLACE + 4 : NULL; }

uint64_t board_epoch(void) { return (uint64_t)BOOT_WORD << 32 | boots; }

/* --- interrupts ---------------------------------------------------------------------------------- */

static void receive_interrupt(void) {
    UART_INTERRUPT = 2;
    while (UART_STATE & 2) {
        const uint8_t byte = (uint8_t)UART_DATA;
        if (held(&from_line) == from_line.size) continue; /* lost: the link repeats it */
        from_line.bytes[from_line.put & (from_line.size - 1)] = byte;
        from_line.put++;
    }
}

static void send_interrupt(void) {
    UART_INTERRUPT = 1;
    while (held(&to_line) && !(UART_STATE & 1)) {
        UART_DATA = to_line.bytes[to_line.got & (to_line.size - 1)];
        to_line.got++;
    }
}

static void tick_interrupt(void) { ticks++; }

static void stop(void) {
    for (;;) __asm volatile("wfi");
}

/* --- the board ------------------------------------------------------------------------------------- */

uint64_t board_us(void) {
    uint32_t before, left;
    do {
        before = ticks;
        left = SYSTICK_VALUE;
    } while (before != ticks);
    return (uint64_t)before * TICK_US + (TICK_CYCLES - left) / (CLOCK_HZ / 1000000u);
}

static void put_line(const uint8_t *data, uint32_t size) {
    while (size--) {
        to_line.bytes[to_line.put & (to_line.size - 1)] = *data++;
        to_line.put++;
    }
    __asm volatile("cpsid i");
    send_interrupt(); /* starts the line when it stands */
    __asm volatile("cpsie i");
}

static void take_line(void) {
    while (held(&from_line)) {
        const uint32_t at = from_line.got & (from_line.size - 1), left = from_line.size - at;
        const uint32_t size = held(&from_line) < left ? held(&from_line) : left;
        server_receive(from_line.bytes + at, size, board_us());
        from_line.got += size;
    }
}

static void sleep_until(uint64_t due_us) {
    __asm volatile("cpsid i"); /* an interrupt still ends the sleep, and is taken after it */
    if (!held(&from_line) && board_us() < due_us) __asm volatile("wfi");
    __asm volatile("cpsie i");
}

static void serve(void) {
    static uint8_t frame[FRAME_ENCODED];
    for (;;) {
        take_line();
        uint32_t size = 0;
        if (to_line.size - held(&to_line) >= FRAME_ENCODED) size = server_transmit(board_us(), frame);
        if (size) put_line(frame, size);
        else if (to_line.size - held(&to_line) < FRAME_ENCODED) sleep_until(UINT64_MAX);
        else sleep_until(server_deadline(board_us()));
    }
}

#define APPLY(name, value) die_set(name, value);

static void run(void) {
    static const struct chip_identity IDENTITY = {DIE_SERIAL, "rram-hil reference firmware 1 (mps2-an386)", "emulated"};
    SYSTICK_RELOAD = TICK_CYCLES - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
    UART_DIVISOR = 16;
    UART_CONTROL = 0xF;
    NVIC_ENABLE = 3; /* UART 0: receive 0, send 1 */
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    server_start(chip_start(&IDENTITY), BOOT_WORD + boots++, 1);
    serve();
}

void reset_handler(void) {
    COPROCESSORS |= 0xFu << 20; /* floating point on */
    __asm volatile("dsb\nisb");
    for (uint32_t *to = data_start, *from = load_address; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    for (uint32_t *to = stack_bottom; to < paint_end; to++) *to = PAINT; /* what stays of it was never used */
    run();
}

__attribute__((section(".vectors"), used)) static void (*const VECTORS[18])(void) = {
    (void (*)(void))(uintptr_t)stack_top, reset_handler, stop, stop, stop, stop, stop, 0, 0, 0, 0, stop, stop, 0, stop,
    tick_interrupt, receive_interrupt, send_interrupt,
};
