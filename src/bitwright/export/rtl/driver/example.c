/* @NAME@ on a processor whose registers and memory are in this program's address space: bare metal, or Linux with both
   mapped (/dev/mem, UIO, u-dma-buf).  Give their addresses on the compiler's command line:
   -DREGISTERS=0x40000000 -DMEMORY=0x80000000, and MEMORY_BASE where the processor sees the same memory elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "@PREFIX@.h"

#ifndef REGISTERS
#define REGISTERS 0x40000000
#endif
#ifndef MEMORY
#define MEMORY 0x80000000
#endif
#ifndef MEMORY_BASE
#define MEMORY_BASE MEMORY
#endif

static int write_memory(void *user, uint32_t address, const void *data, size_t bytes)
{
    (void)user;
    memcpy((unsigned char *)(uintptr_t)MEMORY + address, data, bytes);
    return 0; /* with a cache that the processor does not see: clean it here */
}

static int read_memory(void *user, uint32_t address, void *data, size_t bytes)
{
    (void)user;
    /* with a cache that the processor does not see: discard it here */
    memcpy(data, (const unsigned char *)(uintptr_t)MEMORY + address, bytes);
    return 0;
}

static int write_register(void *user, uint32_t offset, uint32_t value)
{
    (void)user;
    *(volatile uint32_t *)((uintptr_t)REGISTERS + offset) = value;
    return 0;
}

static int read_register(void *user, uint32_t offset, uint32_t *value)
{
    (void)user;
    *value = *(volatile uint32_t *)((uintptr_t)REGISTERS + offset);
    return 0;
}

static const bwp_t processor = {NULL, write_memory, read_memory, write_register, read_register, NULL, MEMORY_BASE, 0};

@BUFFERS@

static int failed(int result)
{
    if (result != BWP_OK) {
        fprintf(stderr, "%s\n", bwp_message(result));
    }
    return result != BWP_OK;
}

/* usage: example image.bin input.bin ... > outputs.bin */
int main(int count, char **names)
{
    uint64_t cycles = 0;
    unsigned char *image = (unsigned char *)malloc(@PREFIX@_image.bytes);
    FILE *file = count == 2 + @INPUTS@ ? fopen(names[1], "rb") : NULL;
    size_t bytes;
    int i;
    if (image == NULL || file == NULL) {
        fprintf(stderr, "usage: example image.bin input.bin ... > outputs.bin\n");
        return 2;
    }
    bytes = fread(image, 1, @PREFIX@_image.bytes, file);
    fclose(file);
    if (failed(@PREFIX@_load(&processor, image, bytes))) {
        return 1;
    }
    free(image);
    for (i = 0; i < @INPUTS@; i++) {
        file = fopen(names[2 + i], "rb");
        if (file == NULL || fread(inputs[i].data, 1, inputs[i].bytes, file) != inputs[i].bytes) {
            fprintf(stderr, "%s does not hold the %lu bytes of the input\n", names[2 + i], (unsigned long)inputs[i].bytes);
            return 1;
        }
        fclose(file);
    }
    if (failed(@PREFIX@_run(&processor, @ARGUMENTS@, @ARENA@, &cycles))) {
        return 1;
    }
    fprintf(stderr, "%lu cycles\n", (unsigned long)cycles);
@WRITES@
    return 0;
}
