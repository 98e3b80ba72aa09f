/* Start-up of a RISC-V core in machine mode, semihosting and the instruction counter.  Sources: the RISC-V Privileged
   Architecture, and the RISC-V Semihosting specification. */
#include "bw_board.h"

extern uint32_t bw_data[], bw_data_end[], bw_data_from[], bw_bss[], bw_bss_end[], bw_stack_low[];
int main(void);

__asm(".section .vectors, \"ax\"\n"
      ".global bw_reset\n"
      "bw_reset:\n"
      "    la sp, bw_stack_top\n"
      "    la t0, bw_trap\n"
      "    csrw mtvec, t0\n"
      "    la t0, bw_begin\n" /* it may be further than a jump reaches */
      "    jr t0\n"
      ".balign 4\n"
      "bw_trap:\n"
      "    la sp, bw_stack_top\n"
      "    la t0, bw_fault\n"
      "    jr t0\n"
      ".text\n"
      /* The three instructions must lie in one page and must not be compressed. */
      ".option push\n"
      ".option norvc\n"
      ".balign 16\n"
      ".global bw_semihost\n"
      "bw_semihost:\n"
      "    slli x0, x0, 0x1f\n"
      "    ebreak\n"
      "    srai x0, x0, 7\n"
      "    ret\n"
      ".option pop\n");

void bw_fault(void);
void bw_begin(void);

void bw_fault(void) { bw_stop(70); }

void bw_begin(void)
{
    for (uint32_t *to = bw_data, *from = bw_data_from; to < bw_data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = bw_bss; to < bw_bss_end;) {
        *to++ = 0;
    }
    bw_stop(main());
}

uint32_t *bw_stack_bottom(void) { return bw_stack_low; }

void bw_timer_start(void) {}

/* With -icount the counter goes on by 2^6 per instruction; 2^32 instructions are enough for 32 bits. */
uint32_t bw_timer_read(void)
{
    uint32_t high, low, again;
    do {
        __asm volatile("csrr %0, minstreth" : "=r"(high));
        __asm volatile("csrr %0, minstret" : "=r"(low));
        __asm volatile("csrr %0, minstreth" : "=r"(again));
    } while (high != again);
    return high << 26 | low >> 6;
}
