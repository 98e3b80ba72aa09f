/* Runs the network for a host over a serial line.  Compile it with the network and -D@UPPER@_HOOKS=1, and give it

       int bw_serial_get(void);            the next byte, or -1 if none came for about 100 ms
       void bw_serial_put(uint8_t byte);   sends a byte, waits while it cannot

   Then call @PREFIX@_serve(), which does not return, or let main() below do it (-DBW_SERIAL_MAIN).  Time is counted by the
   core's own cycle counter (DWT on Armv7-M and Armv8-M, mcycle on RISC-V); elsewhere write bw_serial_ticks() yourself and
   say -DBW_SERIAL_TICKS.  -DBW_CLOCK_HZ=... tells the host how fast it goes.  With -DBW_SERIAL_STDIO the line is standard
   input and output.

   A frame is b1 7e, kind, sequence number, length (2 bytes, low first), payload, CRC-32 from the kind on (4 bytes).  The host
   asks, the board answers with the kind plus 128 and the same number.  Whatever is damaged is dropped in silence: the
   host asks again, and every question may be asked twice. */
#include "@PREFIX@.h"
#include <string.h>

#if !@UPPER@_HOOKS
#error "compile this file and the network with -D@UPPER@_HOOKS=1"
#endif
#ifndef BW_CLOCK_HZ
#define BW_CLOCK_HZ 0
#endif

int bw_serial_get(void);
void bw_serial_put(uint8_t byte);
void @PREFIX@_serve(void);

enum { HELLO = 1, PUT = 2, RUN = 3, GET = 4, STEP = 5, ANSWER = 128, REFUSED = 255, MOST = 512, OUTPUTS = 0, SUMS = 1, TICKS = 2 };

static union {
    int64_t align;
    unsigned char bytes[@UPPER@_ARENA_BYTES];
} arena;
static struct {
@INPUTS@
} in;
static struct {
@OUTPUTS@
} out;
static uint8_t frame[6 + MOST + 4];
static uint32_t sums[@UPPER@_STEPS + 1], ticks[@UPPER@_STEPS + 1], entered;

static uint32_t crc_add(uint32_t crc, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
        }
    }
    return crc;
}

#if defined(BW_SERIAL_TICKS)
uint32_t bw_serial_ticks(void);
static void start_ticks(void) {}
#define TICKS_KIND 1
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && __ARM_ARCH >= 7
/* The cycle counter of the Data Watchpoint and Trace unit. */
static void start_ticks(void)
{
    *(volatile uint32_t *)0xe000edfcu |= 1u << 24;
    *(volatile uint32_t *)0xe0001000u |= 1u;
}
static uint32_t bw_serial_ticks(void) { return *(volatile uint32_t *)0xe0001004u; }
#define TICKS_KIND 1
#elif defined(__riscv)
static void start_ticks(void) {}
static uint32_t bw_serial_ticks(void)
{
    uint32_t now;
    __asm volatile("csrr %0, mcycle" : "=r"(now));
    return now;
}
#define TICKS_KIND 1
#else
static void start_ticks(void) {}
static uint32_t bw_serial_ticks(void) { return 0; }
#define TICKS_KIND 0
#endif

static uint32_t get32(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static uint8_t *put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        *p++ = (uint8_t)(value >> 8 * i);
    }
    return p;
}

/* Payload bytes that lie at frame + 6 already. */
static void answer(uint8_t kind, uint8_t number, uint32_t count)
{
    frame[0] = 0xb1;
    frame[1] = 0x7e;
    frame[2] = kind;
    frame[3] = number;
    frame[4] = (uint8_t)count;
    frame[5] = (uint8_t)(count >> 8);
    put32(frame + 6 + count, ~crc_add(0xffffffffu, frame + 2, 4 + count));
    for (uint32_t i = 0; i < 10 + count; i++) {
        bw_serial_put(frame[i]);
    }
}

static int next(uint8_t *to)
{
    const int byte = bw_serial_get();
    *to = (uint8_t)byte;
    return byte >= 0;
}

/* Payload bytes of the next whole frame. */
static uint32_t receive(void)
{
    for (;;) {
        uint32_t have = 2, count = 0;
        do {
            frame[0] = frame[1];
            while (!next(frame + 1)) {
                frame[0] = 0;
            }
        } while (frame[0] != 0xb1 || frame[1] != 0x7e);
        while (have < 6 + count + 4 && next(frame + have)) {
            have++;
            if (have == 6) {
                count = frame[4] | (uint32_t)frame[5] << 8;
                if (count > MOST) {
                    break;
                }
            }
        }
        if (have > 6 && have == 6 + count + 4 && get32(frame + 6 + count) == (uint32_t)~crc_add(0xffffffffu, frame + 2, 4 + count)) {
            return count;
        }
        frame[1] = 0;
    }
}

static int infer(@PREFIX@_hook_t hook, void *user)
{
    return @PREFIX@_run_hooked(@ARGUMENTS@, &arena, hook, user);
}

static void time_step(void *user, int step, const void *data)
{
    const uint32_t now = bw_serial_ticks();
    (void)user;
    (void)data;
    ticks[1 + step] = now - entered;
    entered = bw_serial_ticks();
}

static void sum_step(void *user, int step, const void *data)
{
    const @PREFIX@_step_t *s = &@PREFIX@_steps[step];
    uint32_t crc = 0xffffffffu;
    (void)user;
    for (int32_t i = 0; i < s->runs; i++) {
        crc = crc_add(crc, (const unsigned char *)data + (size_t)i * (size_t)s->pitch * s->item_bytes,
                      (size_t)s->run * s->item_bytes);
    }
    sums[step] = ~crc;
}

typedef struct {
    int step;
    uint32_t offset, count, made;
} part_t;

static void copy_step(void *user, int step, const void *data)
{
    part_t *part = (part_t *)user;
    const @PREFIX@_step_t *s = &@PREFIX@_steps[step];
    const uint32_t run = (uint32_t)s->run * s->item_bytes;
    if (step != part->step) {
        return;
    }
    for (uint32_t at = part->offset; at < part->offset + part->count && at / run < (uint32_t)s->runs; at++) {
        frame[6 + part->made++] =
            ((const unsigned char *)data)[at / run * ((size_t)s->pitch * s->item_bytes) + at % run];
    }
}

static uint32_t hello(void)
{
    uint8_t *p = frame + 6;
    *p++ = 1; /* version */
    *p++ = TICKS_KIND;
    p = put32(p, MOST);
    p = put32(p, @UPPER@_STEPS);
    p = put32(p, sizeof in);
    p = put32(p, sizeof out);
    p = put32(p, @UPPER@_ARENA_BYTES);
    p = put32(p, @ID@u);
    p = put32(p, BW_CLOCK_HZ);
    return (uint32_t)(p - (frame + 6));
}

/* Bytes of the answer, or -1. */
static int32_t serve(uint8_t kind, uint32_t count)
{
    const uint8_t *const asked = frame + 6;
    if (kind == HELLO) {
        return (int32_t)hello();
    }
    if (kind == PUT && count >= 4 && get32(asked) <= sizeof in && count - 4 <= sizeof in - get32(asked)) {
        memcpy((unsigned char *)&in + get32(asked), asked + 4, count - 4);
        put32(frame + 6, get32(asked) + count - 4);
        return 4;
    }
    if (kind == RUN && count == 1) {
        int failed;
        if (asked[0] == 0) {
            const uint32_t start = bw_serial_ticks();
            failed = infer(NULL, NULL);
            ticks[0] = bw_serial_ticks() - start;
        } else {
            entered = bw_serial_ticks();
            failed = infer(time_step, NULL) | infer(sum_step, NULL);
        }
        frame[6] = (uint8_t)(failed != 0);
        put32(frame + 7, ticks[0]);
        return 5;
    }
    if (kind == GET && count == 7) {
        const uint8_t what = asked[0];
        const uint32_t offset = get32(asked + 1), wanted = asked[5] | (uint32_t)asked[6] << 8;
        const uint32_t have = what == OUTPUTS ? (uint32_t)sizeof out : (uint32_t)sizeof sums;
        if (what > TICKS || wanted > MOST || offset > have || wanted > have - offset) {
            return -1;
        }
        if (what == OUTPUTS) {
            memcpy(frame + 6, (const unsigned char *)&out + offset, wanted);
            return (int32_t)wanted;
        }
        for (uint32_t i = 0; i < wanted / 4; i++) {
            put32(frame + 6 + 4 * i, (what == SUMS ? sums : ticks)[offset / 4 + i]);
        }
        return (int32_t)(wanted / 4 * 4);
    }
    if (kind == STEP && count == 8) {
        part_t part = {asked[0] | asked[1] << 8, get32(asked + 2), asked[6] | (uint32_t)asked[7] << 8, 0};
        if (part.step >= @UPPER@_STEPS || part.count > MOST || infer(copy_step, &part) != 0) {
            return -1;
        }
        return (int32_t)part.made;
    }
    return -1;
}

void @PREFIX@_serve(void)
{
    start_ticks();
    for (;;) {
        const uint32_t count = receive();
        const uint8_t kind = frame[2], number = frame[3];
        const int32_t made = serve(kind, count);
        if (made < 0) {
            answer(REFUSED, number, 0);
        } else {
            answer((uint8_t)(kind | ANSWER), number, (uint32_t)made);
        }
    }
}

#ifdef BW_SERIAL_STDIO
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

int bw_serial_get(void)
{
    struct pollfd line = {0, POLLIN, 0};
    uint8_t byte;
    if (poll(&line, 1, 100) <= 0) {
        return -1;
    }
    if (read(0, &byte, 1) != 1) {
        exit(0); /* the line is gone */
    }
    return byte;
}

void bw_serial_put(uint8_t byte)
{
    if (write(1, &byte, 1) != 1) {
        exit(0);
    }
}
#endif

#if defined(BW_SERIAL_STDIO) || defined(BW_SERIAL_MAIN)
int main(void)
{
    @PREFIX@_serve();
    return 0;
}
#endif
