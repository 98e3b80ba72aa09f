/* Runs samples from the file in.bin and writes to out.bin, for each: what every step computes, then the timer's ticks of
   the whole inference, of every step, and the bytes of stack that were used. */
#include "@PREFIX@.h"
#include "bw_board.h"

#if !@UPPER@_HOOKS
#error "compile the harness and the network with hooks"
#endif

enum { OPEN = 1, CLOSE = 2, WRITE = 5, READ = 6, PAINT = 0x5a5a5a5a };

static union {
    int64_t align;
    unsigned char bytes[@UPPER@_ARENA_BYTES];
} arena;
@BUFFERS@
static unsigned char pending[4096];
static size_t held;
static int output, stage;
static uint32_t entered, ticks[@UPPER@_STEPS + 2];

static int file(const char *name, size_t length, int mode)
{
    const uintptr_t block[3] = {(uintptr_t)name, (uintptr_t)mode, length};
    return bw_semihost(OPEN, block);
}

/* Bytes that could not be read. */
static size_t get(int handle, void *to, size_t count)
{
    const uintptr_t block[3] = {(uintptr_t)handle, (uintptr_t)to, count};
    return (size_t)bw_semihost(READ, block);
}

static void flush(void)
{
    const uintptr_t block[3] = {(uintptr_t)output, (uintptr_t)pending, held};
    if (held != 0 && bw_semihost(WRITE, block) != 0) {
        bw_stop(73);
    }
    held = 0;
}

static void put(const void *from, size_t count)
{
    const unsigned char *bytes = (const unsigned char *)from;
    for (size_t i = 0; i < count; i++) {
        if (held == sizeof pending) {
            flush();
        }
        pending[held++] = bytes[i];
    }
}

static void after(void *user, int step, const void *data)
{
    const uint32_t now = bw_timer_read();
    (void)user;
    if (stage == 1) {
        ticks[1 + step] = now - entered;
    } else {
        const @PREFIX@_step_t *s = &@PREFIX@_steps[step];
        for (int32_t i = 0; i < s->runs; i++) {
            put((const unsigned char *)data + (size_t)i * (size_t)s->pitch * s->item_bytes, (size_t)s->run * s->item_bytes);
        }
    }
    entered = bw_timer_read();
}

static int infer(@PREFIX@_hook_t hook)
{
    return @PREFIX@_run_hooked(@ARGUMENTS@, &arena, hook, NULL);
}

static void paint(void)
{
    volatile uint32_t here = 0;
    for (volatile uint32_t *at = bw_stack_bottom(); at + 16 < &here; at++) {
        *at = PAINT;
    }
}

int main(void)
{
    const int input = file("in.bin", 6, 1);
    uint32_t base;
    output = file("out.bin", 7, 5);
    if (input < 0 || output < 0) {
        return 72;
    }
    bw_timer_start();
    while (@READ@) {
        const uint32_t *at = bw_stack_bottom();
        paint();
        base = bw_timer_read();
        if (infer(NULL) != 0) {
            return 71;
        }
        ticks[0] = bw_timer_read() - base;
        while (*at == PAINT) {
            at++;
        }
        ticks[@UPPER@_STEPS + 1] = (uint32_t)((uintptr_t)&base - (uintptr_t)at);
        for (stage = 1; stage <= 2; stage++) {
            entered = bw_timer_read();
            infer(after);
        }
        put(ticks, sizeof ticks);
    }
    flush();
    return 0;
}
