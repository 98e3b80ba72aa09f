/* Start-up of a Cortex-M, semihosting and timers.  Sources: Armv7-M and Armv8-M Architecture Reference Manuals (vector
   table, CPACR), Arm Semihosting specification, Arm CMSDK TRM (dual timer), Arm SSE-300 TRM (system counter). */
#include "bw_board.h"

extern uint32_t bw_data[], bw_data_end[], bw_data_from[], bw_bss[], bw_bss_end[], bw_stack_top[], bw_stack_low[];
int main(void);
void bw_reset(void);

static void bw_fault(void) { bw_stop(70); }

__attribute__((section(".vectors"), used)) static const void *const bw_vectors[16] = {
    bw_stack_top, (const void *)bw_reset, (const void *)bw_fault, (const void *)bw_fault,
    (const void *)bw_fault, (const void *)bw_fault, (const void *)bw_fault, (const void *)bw_fault,
};

void bw_reset(void)
{
    /* Full access to coprocessors 10 and 11: the FPU, and MVE where there is one.  Others ignore the write. */
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
    __asm volatile("dsb\n\tisb");
#if defined(__ARM_FEATURE_MVE) || defined(__ARM_FP)
#if __ARM_ARCH >= 8 && __ARM_ARCH_8_1M_MAIN__
    __asm volatile("vmsr fpscr, %0" : : "r"(0x40000)); /* LTPSIZE 4: no tail predication is left over */
#endif
#endif
    for (uint32_t *to = bw_data, *from = bw_data_from; to < bw_data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = bw_bss; to < bw_bss_end;) {
        *to++ = 0;
    }
    bw_stop(main());
}

int bw_semihost(int op, const void *argument)
{
    register int r0 __asm("r0") = op;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

uint32_t *bw_stack_bottom(void) { return bw_stack_low; }

#if BW_TIMER == 1
void bw_timer_start(void)
{
    volatile uint32_t *timer = (volatile uint32_t *)BW_TIMER_ADDRESS;
    timer[2] = 0;
    timer[0] = 0xffffffffu;
    timer[2] = 0x82; /* on, 32 bits, not divided, free running */
}
uint32_t bw_timer_read(void) { return ~((volatile uint32_t *)BW_TIMER_ADDRESS)[1]; }
#else
void bw_timer_start(void) { ((volatile uint32_t *)BW_TIMER_ADDRESS)[0] = 1; }
uint32_t bw_timer_read(void) { return ((volatile uint32_t *)BW_TIMER_ADDRESS)[2]; }
#endif
