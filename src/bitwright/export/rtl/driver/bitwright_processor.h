/* Drives bitwright's open processor: the same code for every network, bus and operating system.

   You give four functions, which reach memory and registers the way your system does, and one that waits.  Nothing here
   allocates or keeps state outside of what you pass in. */
#ifndef BITWRIGHT_PROCESSOR_H
#define BITWRIGHT_PROCESSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Offsets of the registers, in bytes. */
@REGISTERS@

/* Their bits. */
@BITS@

#define BWP_IDENTITY_VALUE UINT32_C(0x@IDENTITY@)
#define BWP_VERSION_VALUE @VERSION@

enum {
    BWP_OK = 0,
    BWP_NO_ACCESS = -1,      /* one of your functions returned something else than 0 */
    BWP_NOT_FOUND = -2,      /* no processor at the registers' address */
    BWP_OTHER_HARDWARE = -3, /* a processor of another configuration than the network was compiled for */
    BWP_OTHER_IMAGE = -4,    /* the bytes are not the image of this network */
    BWP_GAVE_UP = -5,        /* `wait` returned something else than 0 */
    BWP_BUS_FAULT = -6,      /* the processor's memory accesses were answered with an error */
    BWP_BAD_ARGUMENT = -7,   /* a pointer is missing, or the memory's base is not a multiple of 4096 */
    BWP_HOST_STEP = -8       /* a step on the host failed: the arena is missing or not aligned to 8 */
};

/* The processor, as your system reaches it.  All functions return 0, or anything else where they failed. */
typedef struct {
    void *user; /* passed to each function */
    /* External memory.  Addresses count from `memory_base`, so 0 is the first byte of the network's memory.  Where the
       processor does not see the caches, `write_memory` cleans them and `read_memory` discards them. */
    int (*write_memory)(void *user, uint32_t address, const void *data, size_t bytes);
    int (*read_memory)(void *user, uint32_t address, void *data, size_t bytes);
    int (*write_register)(void *user, uint32_t offset, uint32_t value);
    int (*read_register)(void *user, uint32_t offset, uint32_t *value);
    /* Called again and again while a program runs: returns at once, sleeps, or blocks until the interrupt. NULL: poll. */
    int (*wait)(void *user);
    /* Where the network's memory lies on the processor's bus; a multiple of 4096. */
    uint32_t memory_base;
    /* Not 0: the interrupt line is raised when a program has ended. */
    int interrupt;
} bwp_t;

/* How a tensor lies in external memory: pixel after pixel, channels innermost, padded. */
typedef struct {
    uint32_t address;      /* first byte */
    uint32_t row_stride;   /* bytes from one row to the next */
    uint32_t pixel_stride; /* bytes from one pixel to the next */
    int32_t height, width; /* pixels in memory */
    int32_t pixel_bytes;   /* bytes of a pixel, padding included */
    int32_t channels;      /* of the tensor */
    const int16_t *order;  /* channel of each byte, -1 for none; NULL: 0, 1, 2 .. and then padding */
    /* Where columns of a window are gathered into one pixel (first layers with few channels): how many, and which. */
    int32_t taps, stride, dilation, left;
    int32_t columns; /* columns of the tensor; `width` where nothing is gathered */
} bwp_tensor_t;

/* A compiled network's image: instructions and parameters. */
typedef struct {
    uint32_t address, bytes, crc32;
    uint32_t fingerprint; /* of the processor that it is for */
} bwp_image_t;

/* Checks that the processor is there and of the configuration `fingerprint`, and tells it where memory is. */
int bwp_open(const bwp_t *p, uint32_t fingerprint);
/* Opens, checks the image's sum and writes it.  `data` may be given in one piece only. */
int bwp_load(const bwp_t *p, const bwp_image_t *image, const void *data, size_t bytes);
/* Whether memory already holds the image: BWP_OK or BWP_OTHER_IMAGE.  Reads all of it. */
int bwp_check(const bwp_t *p, const bwp_image_t *image);
/* Writes or reads a tensor in its own order: channels, rows, columns. */
int bwp_send(const bwp_t *p, const bwp_tensor_t *tensor, const int8_t *values);
int bwp_fetch(const bwp_t *p, const bwp_tensor_t *tensor, int8_t *values);
/* Runs the program at `address` to its end; adds its cycles to `*cycles` unless that is NULL. */
int bwp_run(const bwp_t *p, uint32_t address, uint64_t *cycles);
/* Of the last program: the cycle at which layer `number` had stored its last result. */
int bwp_profile(const bwp_t *p, uint32_t number, uint32_t *cycle);
/* The sum that images are checked by (CRC-32 of IEEE 802.3); start with 0. */
uint32_t bwp_crc32(uint32_t crc, const void *data, size_t bytes);
/* What a result means, in words. */
const char *bwp_message(int result);

#ifdef __cplusplus
}
#endif

#endif
