/* Runs samples from the file in.bin and writes to out.bin, for each: what every step computes, then the timer's ticks of
   the whole inference, of every step, and the bytes of stack that were used. */
#include "@PREFIX@.h"
#include "bw_board.h"
#include "bw_files.h"

#if !@UPPER@_HOOKS
#error "compile the harness and the network with hooks"
#endif

enum { PAINT = 0x5a5a5a5a };
#ifndef BW_REPEATS
#define BW_REPEATS 1 /* the least time of so many counts, where times differ */
#endif

static union {
    int64_t align;
    unsigned char bytes[@UPPER@_ARENA_BYTES];
} arena;
@BUFFERS@
static int stage;
static bw_ticks_t entered, ticks[@UPPER@_STEPS + 2];

static void after(void *user, int step, const void *data)
{
    const bw_ticks_t now = bw_timer_read();
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

#if BW_STACK
static void paint(void)
{
    volatile uint32_t here = 0;
    for (volatile uint32_t *at = bw_stack_bottom(); at + 16 < &here; at++) {
        *at = PAINT;
    }
}
#endif

int main(void)
{
    const int input = file("in.bin", 6, 1);
    bw_ticks_t base, spent;
    output = file("out.bin", 7, 5);
    if (input < 0 || output < 0) {
        return 72;
    }
    bw_timer_start();
    while (@READ@) {
        ticks[0] = 0;
        for (int i = 0; i < BW_REPEATS; i++) {
#if BW_STACK
            const uint32_t *at = bw_stack_bottom();
            paint();
#endif
            base = bw_timer_read();
            if (infer(NULL) != 0) {
                return 71;
            }
            spent = bw_timer_read() - base;
            ticks[0] = i == 0 || spent < ticks[0] ? spent : ticks[0];
#if BW_STACK
            while (*at == PAINT) {
                at++;
            }
            ticks[@UPPER@_STEPS + 1] = (uint32_t)((uintptr_t)&base - (uintptr_t)at);
#endif
        }
        for (stage = 1; stage <= 2; stage++) {
            entered = bw_timer_read();
            infer(after);
        }
        put(ticks, sizeof ticks);
    }
    flush();
    return 0;
}
