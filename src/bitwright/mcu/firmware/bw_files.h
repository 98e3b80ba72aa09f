/* Files of the machine that the emulator runs on: samples come in, results go out. */
#ifndef BW_FILES_H
#define BW_FILES_H

#include "bw_board.h"

enum { OPEN = 1, WRITE = 5, READ = 6 };

static unsigned char pending[4096];
static size_t held;
static int output;

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

#endif
