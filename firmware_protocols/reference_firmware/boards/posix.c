/* The board that is this machine: a pseudo-terminal or a TCP port instead of a UART, the system's clock. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "../core/chip.h"
#include "../nonvolatile/memory.h"
#include "../core/server.h"
#include "../die/die.h"

#define SENDING 65536u
#define PAGE 64u

static const char USAGE[] = "firmware (--pty | --tcp PORT) [--seed N] [--serial TEXT] [--set NAME=VALUE]... [--tether]\n"
                            "         [--key-file FILE] [--page-us N]\n"
                            "  --tether    end when standard input is closed\n"
                            "  --key-file  32 bytes that hosts must prove before they change anything\n"
                            "  --page-us   microseconds that 64 bytes of memory take to be written, as of a flash\n"
                            "SIGUSR1 restarts the firmware as a loss of power does: cells and memory stay, a write ends where it is.\n";

static struct {
    int line, listener, away; /* −1: none; away: a client that was told that the chip is taken */
    uint8_t out[SENDING];
    size_t first, end; /* of what waits in `out` */
    bool tethered;
} board = {.line = -1, .listener = -1, .away = -1};

static uint8_t kept[MEMORY_BYTES], key[KEY_BYTES];
static bool has_key;
static volatile sig_atomic_t power_failed;
static jmp_buf power_lost;
static long page_us;

const uint8_t *memory_at(uint32_t at) { return kept + at; }

void memory_write(uint32_t at, const void *data, uint32_t size) {
    for (; page_us && size > PAGE; at += PAGE, size -= PAGE) {
        memcpy(kept + at, (const uint8_t *)data, PAGE);
        data = (const uint8_t *)data + PAGE;
        usleep((useconds_t)page_us);
        if (power_failed) longjmp(power_lost, 1);
    }
    memcpy(kept + at, data, size);
}

const uint8_t *board_key(void) { return has_key ? key : NULL; }

uint64_t board_epoch(void) {
    uint64_t epoch;
    if (getrandom(&epoch, sizeof epoch, 0) != sizeof epoch) abort();
    return epoch;
}

static void power_fails(int signal) {
    (void)signal;
    power_failed = 1;
}

static void die_with(const char *what) {
    perror(what);
    exit(1);
}

uint64_t board_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* --- the line ------------------------------------------------------------------------------------ */

static void open_pty(void) {
    board.line = posix_openpt(O_RDWR | O_NOCTTY);
    if (board.line < 0 || grantpt(board.line) || unlockpt(board.line)) die_with("pty");
    const char *name = ptsname(board.line);
    struct termios raw;
    const int slave = open(name, O_RDWR | O_NOCTTY); /* stays open, so that clients may come and go */
    if (slave < 0 || tcgetattr(slave, &raw)) die_with(name);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    fcntl(board.line, F_SETFL, O_NONBLOCK);
    printf("%s\n", name);
}

static void open_tcp(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof at;
    const int yes = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    board.listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(board.listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(board.listener, (struct sockaddr *)&at, sizeof at) || listen(board.listener, 1)) die_with("tcp");
    getsockname(board.listener, (struct sockaddr *)&at, &size);
    printf("tcp://127.0.0.1:%d\n", ntohs(at.sin_port));
}

/* Says that the chip is taken. The socket stays until the client has gone: closed before, it takes the words back. */
static void send_away(int client) {
    uint8_t frame[FRAME_ENCODED];
    const uint32_t size = server_taken(frame);
    if (board.away >= 0) close(board.away);
    board.away = client;
    fcntl(client, F_SETFL, O_NONBLOCK);
    if (write(client, frame, size) < 0 || shutdown(client, SHUT_WR)) { /* it has gone already */ }
}

static void look_after_away(void) {
    uint8_t data[4096];
    const ssize_t size = read(board.away, data, sizeof data);
    if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR))) return;
    close(board.away);
    board.away = -1;
}

static void take_client(void) {
    const int yes = 1, client = accept(board.listener, NULL, NULL);
    if (client < 0) return;
    if (board.line >= 0) { /* one at a time */
        send_away(client);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(client, F_SETFL, O_NONBLOCK);
    board.line = client;
    board.first = board.end = 0;
}

static void lose_client(void) {
    if (board.listener < 0) return; /* a pseudo-terminal waits for the next one */
    close(board.line);
    board.line = -1;
    server_line_lost();
}

static void read_line(void) {
    uint8_t data[65536];
    const ssize_t size = read(board.line, data, sizeof data);
    if (size > 0) server_receive(data, (uint32_t)size, board_us());
    else if (size == 0 || (errno != EAGAIN && errno != EINTR)) lose_client();
}

static void write_line(void) {
    const ssize_t size = write(board.line, board.out + board.first, board.end - board.first);
    if (size > 0) board.first += (size_t)size;
    else if (errno != EAGAIN && errno != EINTR) lose_client();
    if (board.first == board.end) board.first = board.end = 0;
}

/* --- the loop -------------------------------------------------------------------------------------- */

/* Puts frames into the buffer while it has room; each call that gives none may have done a slice of work. */
static void fill(void) {
    while (SENDING - board.end >= FRAME_ENCODED) {
        const uint32_t size = server_transmit(board_us(), board.out + board.end);
        if (!size) return;
        board.end += size;
    }
}

static int wait_ms(void) {
    const uint64_t now = board_us(), due = server_deadline(now);
    if (board.end) return 1000;
    if (due <= now) return 0;
    return due - now > 1000000u ? 1000 : (int)((due - now) / 1000u) + 1;
}

static void serve(const struct chip_identity *identity, uint32_t first_boot) {
    static uint32_t boot_id; /* outlives the jump out of a write */
    boot_id = first_boot;
    if (setjmp(power_lost)) { /* the flag is set: the firmware starts anew */ }
    for (;;) {
        if (power_failed) {
            power_failed = 0;
            board.first = board.end = 0;
            server_start(chip_start(identity), ++boot_id, 1);
        }
        fill();
        if (board.line < 0) board.first = board.end = 0; /* nobody hears it */
        struct pollfd watched[4] = {
            {board.line, (short)(POLLIN | (board.end ? POLLOUT : 0)), 0},
            {board.listener, POLLIN, 0},
            {board.tethered ? STDIN_FILENO : -1, POLLIN, 0},
            {board.away, POLLIN, 0},
        };
        if (poll(watched, 4, wait_ms()) < 0 && errno != EINTR) die_with("poll");
        if (watched[2].revents) return;
        if (watched[3].revents) look_after_away();
        if (watched[0].revents & POLLOUT) write_line();
        if (watched[0].revents & ~POLLOUT && board.line >= 0) read_line();
        if (watched[1].revents) take_client(); /* last: the one before may just have left */
    }
}

static bool set_parameter(char *text) {
    char *equals = strchr(text, '='), *end;
    if (!equals) return false;
    *equals = 0;
    const float value = strtof(equals + 1, &end);
    return *end == 0 && end != equals + 1 && die_set(text, value);
}

static bool read_key(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    has_key = fread(key, 1, KEY_BYTES, file) == KEY_BYTES && fgetc(file) == EOF;
    fclose(file);
    return has_key;
}

#define APPLY(name, value) die_set(name, value);

int main(int count, char **words) {
    uint32_t boot_id = (uint32_t)(board_us() ^ (uint64_t)getpid() << 20);
    struct chip_identity identity = {DIE_SERIAL, "rram-hil reference firmware 1 (native)", "emulated"};
    die_seed(DIE_SEED);
    DIE_SETTINGS(APPLY)
    const char *where = NULL;
    for (int i = 1; i < count; i++) {
        const bool more = i + 1 < count;
        if (!strcmp(words[i], "--pty")) where = "pty";
        else if (!strcmp(words[i], "--tether")) board.tethered = true;
        else if (!strcmp(words[i], "--tcp") && more) where = words[++i];
        else if (!strcmp(words[i], "--seed") && more) die_seed(strtoull(words[++i], NULL, 10));
        else if (!strcmp(words[i], "--serial") && more) identity.serial = words[++i];
        else if (!strcmp(words[i], "--key-file") && more && read_key(words[i + 1])) i++;
        else if (!strcmp(words[i], "--page-us") && more) page_us = strtol(words[++i], NULL, 10);
        else if (!strcmp(words[i], "--set") && more && set_parameter(words[i + 1])) i++;
        else {
            fprintf(stderr, "firmware: cannot use %s\n%s", words[i], USAGE);
            return 2;
        }
    }
    if (!where) {
        fputs(USAGE, stderr);
        return 2;
    }
    server_start(chip_start(&identity), boot_id, 1);
    if (!strcmp(where, "pty")) open_pty();
    else open_tcp(atoi(where));
    fflush(stdout);
    signal(SIGUSR1, power_fails);
    signal(SIGPIPE, SIG_IGN); /* a client that has gone is lost, not the end */
    serve(&identity, boot_id);
    return 0;
}
