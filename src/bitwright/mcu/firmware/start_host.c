/* The harness on this machine: files by the C library, time by the processor's own counter of a fixed rate.  At the end
   the file rate.txt says how many ticks and how many nanoseconds went by. */
#define _POSIX_C_SOURCE 199309L
#include "bw_board.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

static FILE *files[4];
static bw_ticks_t first_ticks;
static int64_t first_ns;

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bw_ticks_t bw_timer_read(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t now;
    __asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    return (bw_ticks_t)nanoseconds();
#endif
}

static void write_rate(void)
{
    FILE *rate = fopen("rate.txt", "w");
    if (rate != NULL) {
        fprintf(rate, "%llu %lld\n", (unsigned long long)(bw_timer_read() - first_ticks),
                (long long)(nanoseconds() - first_ns));
        fclose(rate);
    }
}

void bw_timer_start(void)
{
    first_ns = nanoseconds();
    first_ticks = bw_timer_read();
    atexit(write_rate);
}

uint32_t *bw_stack_bottom(void) { return NULL; }

/* The three operations of semihosting that the harness uses, with the same arguments and results. */
int bw_semihost(int op, const void *argument)
{
    const uintptr_t *block = (const uintptr_t *)argument;
    if (op == 1) {
        const char *mode = block[1] == 1 ? "rb" : "wb";
        for (int i = 0; i < 4; i++) {
            if (files[i] == NULL) {
                files[i] = fopen((const char *)block[0], mode);
                return files[i] == NULL ? -1 : i;
            }
        }
        return -1;
    }
    FILE *file = files[block[0]];
    if (op == 5) {
        const size_t done = fwrite((const void *)block[1], 1, block[2], file);
        return (int)(block[2] - done) | (fflush(file) != 0);
    }
    return (int)(block[2] - fread((void *)block[1], 1, block[2], file));
}
