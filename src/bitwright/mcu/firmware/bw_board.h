/* What a bare machine offers to the harness. */
#ifndef BW_BOARD_H
#define BW_BOARD_H

#include <stddef.h>
#include <stdint.h>

int bw_semihost(int op, const void *argument);
uint32_t *bw_stack_bottom(void);
void bw_timer_start(void);
uint32_t bw_timer_read(void); /* counts up, modulo 2^32 */

/* Ends the emulator with this status (SYS_EXIT_EXTENDED, ADP_Stopped_ApplicationExit). */
static inline void bw_stop(int status)
{
    const uintptr_t block[2] = {0x20026, (uintptr_t)status};
    bw_semihost(0x20, block);
    for (;;) {
    }
}

#endif
