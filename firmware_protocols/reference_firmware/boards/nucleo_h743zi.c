/* NUCLEO-H743ZI2 (STM32H743ZI, Cortex-M7): USART3 of its debug probe by DMA both ways, TIM5 as clock, the log of
 * flash_log.c in bank 2, random numbers of its own. It has no macro: the die model stands there until yours does.
 * Registers after the reference manual RM0433. No interrupt is ever taken: a pending one ends the sleep. */
#include "../core/chip.h"
#include "../core/server.h"
#include "../die/die.h"
#include "flash_log.h"

#pragma GCC optimize("Os") /* small before fast */

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define BIT(number) (1u << (number))
#define BAUD 921600u
#define CLOCK_HZ 64000000u /* HSI, as after reset */
#define RECEIVING 8192u    /* a window of short frames may come at once; a power of two */

/* --- clocks and the processor ---------------------------------------------------------------------------------- */

#define RCC(offset) REGISTER(0x58024400u + (offset))
#define RCC_CR RCC(0x000u)
#define RCC_AHB1 RCC(0x0D8u)
#define RCC_AHB2 RCC(0x0DCu)
#define RCC_AHB4 RCC(0x0E0u)
#define RCC_APB1 RCC(0x0E8u)
#define SYSTICK(offset) REGISTER(0xE000E010u + (offset))
#define INTERRUPT_STATE REGISTER(0xE000ED04u)
#define CONFIGURATION REGISTER(0xE000ED14u)
#define COPROCESSORS REGISTER(0xE000ED88u)
#define INSTRUCTION_CACHE REGISTER(0xE000EF50u)
#define NVIC_ENABLE_32 REGISTER(0xE000E104u)
#define NVIC_CLEAR_32 REGISTER(0xE000E284u)
#define TIM5(offset) REGISTER(0x40000C00u + (offset))
#define RNG(offset) REGISTER(0x48021800u + (offset))

extern uint32_t load_address[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];

uint64_t board_us(void) { /* looked at each millisecond, so that no turn of 71 minutes is missed */
    static uint32_t last, turns;
    const uint32_t now = TIM5(0x24);
    if (now < last) turns++;
    last = now;
    return (uint64_t)turns << 32 | now;
}

static uint32_t random_word(void) {
    while (!(RNG(0x04) & 1)) {}
    return RNG(0x08);
}

uint64_t board_epoch(void) { return (uint64_t)random_word() << 32 | random_word(); }

/* Sector 7 of bank 1: KEY_THERE and a key, put there by whoever owns the board; erased: nobody needs one. */
#define KEY_PLACE ((const uint8_t *)0x080E0000u)
#define KEY_THERE 0x2179654Bu

const uint8_t *board_key(void) { return get_u32(KEY_PLACE) == KEY_THERE ? KEY_PLACE + 4 : NULL; }

static void start_clocks(void) {
    RCC_CR |= BIT(12); /* HSI48, of the random numbers */
    while (!(RCC_CR & BIT(13))) {}
    RCC_AHB1 |= BIT(0);
    RCC_AHB2 |= BIT(6) | BIT(29) | BIT(30) | BIT(31); /* random numbers, memory of domain 2 */
    RCC_AHB4 |= BIT(3);
    RCC_APB1 |= BIT(3) | BIT(18);
    (void)RCC_APB1; /* a read waits until they run */
    RNG(0x00) = BIT(2);
    TIM5(0x28) = CLOCK_HZ / 1000000u - 1;
    TIM5(0x2C) = UINT32_MAX;
    TIM5(0x14) = 1;
    TIM5(0x00) = 1;
    SYSTICK(4) = CLOCK_HZ / 1000u - 1;
    SYSTICK(8) = 0;
    SYSTICK(0) = 7;
}

/* --- flash: sectors 0 and 1 of bank 2, so that code in bank 1 runs while they are written ------------------------- */

#define FLASH(offset) REGISTER(0x52002100u + (offset))
#define FLASH_CR FLASH(0x0C)
#define FLASH_SR FLASH(0x10)
#define QUEUED BIT(2)
#define TWICE_WRONG BIT(26) /* two bits of a word are: it was cut */
#define AS_WORDS (2u << 4)
#define SECTOR(number) (0x08100000u + (number) * FLASH_SECTOR)

static void flash_ready(void) {
    while (FLASH_SR & QUEUED) {}
    if (FLASH_CR & 1) {
        FLASH(0x04) = 0x45670123u;
        FLASH(0x04) = 0xCDEF89ABu;
    }
}

void flash_erase(uint32_t sector) {
    flash_ready();
    FLASH_CR = BIT(2) | AS_WORDS | sector << 8;
    FLASH_CR |= BIT(7);
}

void flash_program(uint32_t sector, uint32_t at, const uint8_t word[FLASH_WORD]) {
    flash_ready();
    FLASH_CR = BIT(1) | AS_WORDS;
    __asm volatile("dsb\nisb" ::: "memory");
    for (uint32_t i = 0; i < FLASH_WORD; i += 4) REGISTER(SECTOR(sector) + at + i) = get_u32(word + i);
    __asm volatile("dsb" ::: "memory");
    flash_ready();
    FLASH_CR = 0;
}

/* A word that was cut raises a bus fault, which is passed over here and told. */
bool flash_read(uint32_t sector, uint32_t at, uint8_t word[FLASH_WORD]) {
    flash_ready();
    FLASH(0x14) = TWICE_WRONG;
    CONFIGURATION |= BIT(8);
    __asm volatile("cpsid f\ndsb" ::: "memory");
    for (uint32_t i = 0; i < FLASH_WORD; i += 4) put_u32(word + i, REGISTER(SECTOR(sector) + at + i));
    __asm volatile("dsb\ncpsie f" ::: "memory");
    CONFIGURATION &= ~BIT(8);
    const bool cut = FLASH_SR & TWICE_WRONG;
    FLASH(0x14) = TWICE_WRONG;
    return !cut;
}

/* --- line: USART3 on PD8 and PD9, DMA1 streams 0 (in a circle) and 1 --------------------------------------------------- */

#define USART3(offset) REGISTER(0x40004800u + (offset))
#define STREAM(number, offset) REGISTER(0x40020010u + 0x18u * (number) + (offset))
#define DMA_CLEAR_LOW REGISTER(0x40020008u)
#define DMAMUX(channel) REGISTER(0x40020800u + 4u * (channel))
#define GPIOD(offset) REGISTER(0x58020C00u + (offset))
#define USART3_LINE (39 - 32) /* of the interrupt controller */

static uint8_t received[RECEIVING], frames[2][FRAME_ENCODED];
static uint32_t taken; /* of `received`, as a place in it */

static void start_line(void) {
    GPIOD(0x00) = (GPIOD(0x00) & ~(0xFu << 16)) | 0xAu << 16;
    GPIOD(0x24) = (GPIOD(0x24) & ~0xFFu) | 0x77u;
    DMAMUX(0) = 45;
    DMAMUX(1) = 46;
    STREAM(0, 0x08) = (uint32_t)(uintptr_t)&USART3(0x24);
    STREAM(0, 0x0C) = (uint32_t)(uintptr_t)received;
    STREAM(0, 0x04) = RECEIVING;
    STREAM(0, 0x00) = BIT(10) | BIT(8) | BIT(0);
    STREAM(1, 0x08) = (uint32_t)(uintptr_t)&USART3(0x28);
    USART3(0x0C) = (CLOCK_HZ + BAUD / 2) / BAUD;
    USART3(0x08) = BIT(12) | BIT(7) | BIT(6);
    USART3(0x00) = BIT(4) | BIT(3) | BIT(2) | BIT(0);
    NVIC_ENABLE_32 = BIT(USART3_LINE);
}

static void take_line(void) {
    const uint32_t put = (RECEIVING - STREAM(0, 0x04)) % RECEIVING;
    while (taken != put) {
        const uint32_t upto = put > taken ? put : RECEIVING;
        server_receive(received + taken, upto - taken, board_us());
        taken = upto % RECEIVING;
    }
}

static bool line_is_free(void) { return !(STREAM(1, 0x00) & 1); }

static void give_line(const uint8_t *frame, uint32_t size) {
    DMA_CLEAR_LOW = 0xF40u;
    STREAM(1, 0x0C) = (uint32_t)(uintptr_t)frame;
    STREAM(1, 0x04) = size;
    __asm volatile("dsb" ::: "memory");
    STREAM(1, 0x00) = BIT(10) | BIT(6) | BIT(0);
}

/* At most to the next millisecond, or until the line falls idle after some bytes. */
static void sleep_until(uint64_t due_us) {
    if (board_us() >= due_us) return;
    __asm volatile("dsb\nwfi" ::: "memory");
    USART3(0x20) = BIT(4);
    NVIC_CLEAR_32 = BIT(USART3_LINE);
    INTERRUPT_STATE = BIT(25);
}

/* --- the loop -------------------------------------------------------------------------------------------------------- */

#define APPLY(name, value) die_set(name, value);

static void serve(void) {
    uint32_t next = 0, waiting = 0; /* bytes of the frame after the one that is being sent */
    for (;;) {
        take_line();
        if (!waiting) waiting = server_transmit(board_us(), frames[next]);
        if (waiting && line_is_free()) {
            give_line(frames[next], waiting);
            next = 1 - next;
            waiting = 0;
        } else {
            sleep_until(waiting ? UINT64_MAX : server_deadline(board_us()));
        }
    }
}

static void run(void) {
    static const struct chip_identity IDENTITY = {DIE_SERIAL, "rram-hil reference firmware 1 (nucleo-h743zi)", "emulated"};
    start_clocks();
    flash_log_start();
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    server_start(chip_start(&IDENTITY), random_word(), 1);
    start_line();
    serve();
}

void reset_handler(void) {
    __asm volatile("cpsid i");
    COPROCESSORS |= 0xFu << 20; /* floating point on */
    INSTRUCTION_CACHE = 0;
    __asm volatile("dsb\nisb");
    CONFIGURATION |= BIT(17); /* and no data cache, so that DMA and processor see the same */
    __asm volatile("dsb\nisb");
    for (uint32_t *to = data_start, *from = load_address; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    run();
}

static void stop(void) {
    for (;;) __asm volatile("wfi");
}

__attribute__((section(".vectors"), used)) static void (*const VECTORS[16])(void) = {
    (void (*)(void))(uintptr_t)stack_top, reset_handler, stop, stop, stop, stop, stop, 0, 0, 0, 0, stop, stop, 0, stop, stop,
};
