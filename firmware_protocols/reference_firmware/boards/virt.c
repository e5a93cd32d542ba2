/* The board virt (RISC-V, rv32imac, no floating point unit), as QEMU has it: UART and timer polled, sleep in between. */
#include "../core/chip.h"
#include "../nonvolatile/memory.h"
#include "../core/server.h"
#include "../die/die.h"

#pragma GCC optimize("Os") /* small before fast */

#define TICKS_A_US 10u
#define SENDING 4096u /* about two long frames: more would only age the link's timers */
#define PAINT 0x5EAF00D5u

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART(number) (*(volatile uint8_t *)(0x10000000u + (number))) /* a 16550: data 0, interrupts 1, state 5 */
#define RECEIVED 1u
#define MAY_SEND 0x20u
#define PLIC_UART_PRIORITY REGISTER(0x0C000028u)
#define PLIC_ENABLE REGISTER(0x0C002000u)
#define PLIC_CLAIM REGISTER(0x0C200004u)
#define UART_INTERRUPT 10u
#define TIME_LOW REGISTER(0x0200BFF8u)
#define TIME_HIGH REGISTER(0x0200BFFCu)
#define WAKE_LOW REGISTER(0x02004000u)
#define WAKE_HIGH REGISTER(0x02004004u)
#define MEMORY ((uint8_t *)0x84000000u) /* RAM that nothing clears stands for a flash */
#define KEY_PLACE ((const uint8_t *)0x84200000u) /* KEY_THERE and a key, set from outside */
#define KEY_THERE 0x2179654Bu
#define BOOT_WORD REGISTER(0x842FFFF0u) /* set from outside at each start, as a real board's counter in flash */

extern uint32_t bss_start[], bss_end[], stack_bottom[], paint_end[];
static uint32_t boots __attribute__((section(".noinit"))); /* since power on */

static uint8_t sending[SENDING];
static uint32_t put, got; /* of what waits to be sent */

const uint8_t *memory_at(uint32_t at) { return MEMORY + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) { memcpy(MEMORY + at, data, size); }

const uint8_t *board_key(void) { return get_u32(KEY_PLACE) == KEY_THERE ? KEY_PLACE + 4 : NULL; }

uint64_t board_epoch(void) { return (uint64_t)BOOT_WORD << 32 | boots; }

uint64_t board_us(void) {
    uint32_t high, low;
    do {
        high = TIME_HIGH;
        low = TIME_LOW;
    } while (high != TIME_HIGH);
    return ((uint64_t)high << 32 | low) / TICKS_A_US;
}

/* --- the line: the UART of QEMU takes no byte before there is room for it, so that none is lost ------------------ */

static void take_line(void) {
    uint8_t bytes[256];
    uint32_t size = 0;
    while (size < sizeof bytes && UART(5) & RECEIVED) bytes[size++] = UART(0);
    if (size) server_receive(bytes, size, board_us());
}

static void give_line(void) {
    while (put != got && UART(5) & MAY_SEND) UART(0) = sending[got++ % SENDING];
}

/* Until then, or until the UART has something to say; the interrupt is pending and never taken. */
static void sleep_until(uint64_t due_us) {
    const uint64_t due = due_us > UINT64_MAX / TICKS_A_US ? UINT64_MAX : due_us * TICKS_A_US;
    WAKE_HIGH = UINT32_MAX;
    WAKE_LOW = (uint32_t)due;
    WAKE_HIGH = (uint32_t)(due >> 32);
    UART(1) = put == got ? 1 : 3;
    __asm volatile("wfi");
    UART(1) = 0;
    PLIC_CLAIM = PLIC_CLAIM; /* claimed and at once completed */
}

static void serve(void) {
    static uint8_t frame[FRAME_ENCODED];
    for (;;) {
        take_line();
        give_line();
        const bool room = SENDING - (put - got) >= FRAME_ENCODED;
        const uint32_t size = room ? server_transmit(board_us(), frame) : 0;
        for (uint32_t i = 0; i < size; i++) sending[put++ % SENDING] = frame[i];
        if (!size && !(UART(5) & RECEIVED)) sleep_until(room ? server_deadline(board_us()) : UINT64_MAX);
    }
}

#define APPLY(name, value) die_set(name, value);

__attribute__((used)) static void run(void) {
    static const struct chip_identity IDENTITY = {DIE_SERIAL, "rram-hil reference firmware 1 (virt)", "emulated"};
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    for (uint32_t *to = stack_bottom; to < paint_end; to++) *to = PAINT; /* what stays of it was never used */
    PLIC_UART_PRIORITY = 1;
    PLIC_ENABLE = 1u << UART_INTERRUPT;
    __asm volatile("csrw mie, %0" ::"r"(0x880)); /* timer and external interrupts end a wfi */
    UART(2) = 1; /* its queue of 16 bytes */
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    server_start(chip_start(&IDENTITY), BOOT_WORD + boots++, 1);
    serve();
}

__attribute__((naked, section(".start"), used)) void start(void) {
    __asm volatile("csrw mstatus, zero\nla sp, stack_top\nj run");
}
