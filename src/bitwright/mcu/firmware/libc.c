/* For compilers that come without a C library: memory functions that move words where they may. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) word_t;

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3u) == 0) {
        for (; count >= 4; count -= 4, t += 4, f += 4) {
            *(word_t *)(void *)t = *(const word_t *)(const void *)f;
        }
    }
    while (count-- > 0) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count)
{
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    if ((uintptr_t)t <= (uintptr_t)f) {
        while (count-- > 0) {
            *t++ = *f++;
        }
    } else {
        while (count-- > 0) {
            t[count] = f[count];
        }
    }
    return to;
}

void *memset(void *to, int value, size_t count)
{
    unsigned char *t = (unsigned char *)to;
    while (count-- > 0) {
        *t++ = (unsigned char)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t count)
{
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    for (; count > 0; count--, x++, y++) {
        if (*x != *y) {
            return *x < *y ? -1 : 1;
        }
    }
    return 0;
}

/* Adding and taking off 2^23 rounds to even, as the FPU does by default. */
float rintf(float x)
{
    volatile float large = x < 0.0f ? -8388608.0f : 8388608.0f, sum;
    if (!(x > -8388608.0f && x < 8388608.0f)) {
        return x;
    }
    sum = x + large;
    return sum - large;
}

float roundf(float x)
{
    if (!(x > -8388608.0f && x < 8388608.0f)) {
        return x;
    }
    const float magnitude = x < 0.0f ? -x : x;
    const float whole = (float)(int32_t)magnitude;
    const float rounded = magnitude - whole >= 0.5f ? whole + 1.0f : whole;
    return x < 0.0f ? -rounded : rounded;
}

#if defined(__arm__)
/* What compilers call by the names of the Run-time ABI for the Arm Architecture, 4.3.4. */
#define BW_COPY(name) void name(void *to, const void *from, size_t count) { memcpy(to, from, count); }
#define BW_MOVE(name) void name(void *to, const void *from, size_t count) { memmove(to, from, count); }
#define BW_SET(name) void name(void *to, size_t count, int value) { memset(to, value, count); }
#define BW_CLEAR(name) void name(void *to, size_t count) { memset(to, 0, count); }
BW_COPY(__aeabi_memcpy)
BW_COPY(__aeabi_memcpy4)
BW_COPY(__aeabi_memcpy8)
BW_MOVE(__aeabi_memmove)
BW_MOVE(__aeabi_memmove4)
BW_MOVE(__aeabi_memmove8)
BW_SET(__aeabi_memset)
BW_SET(__aeabi_memset4)
BW_SET(__aeabi_memset8)
BW_CLEAR(__aeabi_memclr)
BW_CLEAR(__aeabi_memclr4)
BW_CLEAR(__aeabi_memclr8)
#endif
