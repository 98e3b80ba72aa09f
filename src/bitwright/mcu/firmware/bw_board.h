/* What a bare machine offers to the harness. */
#ifndef BW_BOARD_H
#define BW_BOARD_H

#include <stddef.h>
#include <stdint.h>

#ifndef BW_STACK
#define BW_STACK 1 /* its end is known, so that what is used can be measured */
#endif
#if BW_WIDE_TICKS
typedef uint64_t bw_ticks_t;
#else
typedef uint32_t bw_ticks_t; /* modulo 2^32 */
#endif

int bw_semihost(int op, const void *argument);
uint32_t *bw_stack_bottom(void);
void bw_timer_start(void);
bw_ticks_t bw_timer_read(void); /* counts up */

/* Ends the emulator with this status (SYS_EXIT_EXTENDED, ADP_Stopped_ApplicationExit). */
static inline void bw_stop(int status)
{
    const uintptr_t block[2] = {0x20026, (uintptr_t)status};
    bw_semihost(0x20, block);
    for (;;) {
    }
}

#endif
