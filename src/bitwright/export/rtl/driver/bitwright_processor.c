#include "bitwright_processor.h"

#include <string.h>

enum { CHUNK = 1024 }; /* bytes that are moved at once, on the stack */

static int get(const bwp_t *p, uint32_t offset, uint32_t *value)
{
    return p->read_register(p->user, offset, value) ? BWP_NO_ACCESS : BWP_OK;
}

static int put(const bwp_t *p, uint32_t offset, uint32_t value)
{
    return p->write_register(p->user, offset, value) ? BWP_NO_ACCESS : BWP_OK;
}

int bwp_open(const bwp_t *p, uint32_t fingerprint)
{
    uint32_t value = 0;
    int result;
    if (p == NULL || p->write_memory == NULL || p->read_memory == NULL || p->write_register == NULL ||
        p->read_register == NULL || p->memory_base % @ALIGNMENT@u != 0) {
        return BWP_BAD_ARGUMENT;
    }
    if ((result = get(p, BWP_IDENTITY, &value)) != BWP_OK) {
        return result;
    }
    if (value != BWP_IDENTITY_VALUE) {
        return BWP_NOT_FOUND;
    }
    if ((result = get(p, BWP_VERSION, &value)) != BWP_OK) {
        return result;
    }
    if (value != BWP_VERSION_VALUE) {
        return BWP_OTHER_HARDWARE;
    }
    if ((result = get(p, BWP_FINGERPRINT, &value)) != BWP_OK) {
        return result;
    }
    if (value != fingerprint) {
        return BWP_OTHER_HARDWARE;
    }
    return put(p, BWP_MEMORY_BASE, p->memory_base);
}

int bwp_load(const bwp_t *p, const bwp_image_t *image, const void *data, size_t bytes)
{
    int result;
    if (image == NULL || data == NULL) {
        return BWP_BAD_ARGUMENT;
    }
    if (bytes != image->bytes || bwp_crc32(0, data, bytes) != image->crc32) {
        return BWP_OTHER_IMAGE;
    }
    if ((result = bwp_open(p, image->fingerprint)) != BWP_OK) {
        return result;
    }
    return p->write_memory(p->user, image->address, data, bytes) ? BWP_NO_ACCESS : BWP_OK;
}

int bwp_check(const bwp_t *p, const bwp_image_t *image)
{
    unsigned char chunk[CHUNK];
    uint32_t crc = 0, at = 0;
    while (at < image->bytes) {
        const uint32_t size = image->bytes - at < CHUNK ? image->bytes - at : CHUNK;
        if (p->read_memory(p->user, image->address + at, chunk, size)) {
            return BWP_NO_ACCESS;
        }
        crc = bwp_crc32(crc, chunk, size);
        at += size;
    }
    return crc == image->crc32 ? BWP_OK : BWP_OTHER_IMAGE;
}

/* Byte `at` of pixel (y, x): where it is in a tensor of channels, rows, columns; -1 where it is padding. */
static int64_t place(const bwp_tensor_t *t, int32_t y, int32_t x, int32_t at)
{
    const int32_t all = t->taps * t->channels;
    const int32_t channel = t->order != NULL ? t->order[at] : at < all ? at : -1;
    const int32_t column = x * t->stride + channel / t->channels * t->dilation - t->left;
    if (channel < 0 || column < 0 || column >= t->columns) {
        return -1;
    }
    return ((int64_t)(channel % t->channels) * t->height + y) * t->columns + column;
}

/* Bytes that lie together are moved together: the whole tensor, or pixel after pixel. */
static int move(const bwp_t *p, const bwp_tensor_t *t, const int8_t *from, int8_t *into)
{
    unsigned char chunk[CHUNK];
    const uint32_t row = t->pixel_stride * (uint32_t)t->width;
    const int together = t->pixel_stride == (uint32_t)t->pixel_bytes && (t->height == 1 || t->row_stride == row);
    const int64_t pixels = (int64_t)t->height * t->width;
    const int64_t runs = together ? 1 : pixels;
    const int64_t length = together ? pixels * t->pixel_bytes : t->pixel_bytes;
    int64_t run;
    for (run = 0; run < runs; run++) {
        int32_t y = (int32_t)(run / t->width), x = (int32_t)(run % t->width), at = 0;
        const uint32_t start = t->address + (uint32_t)y * t->row_stride + (uint32_t)x * t->pixel_stride;
        int64_t done = 0;
        while (done < length) {
            const int32_t size = length - done < CHUNK ? (int32_t)(length - done) : CHUNK;
            int32_t i;
            if (into != NULL && p->read_memory(p->user, start + (uint32_t)done, chunk, (size_t)size)) {
                return BWP_NO_ACCESS;
            }
            for (i = 0; i < size; i++) {
                const int64_t where = place(t, y, x, at);
                if (into == NULL) {
                    chunk[i] = where < 0 ? 0 : (unsigned char)from[where];
                } else if (where >= 0) {
                    memcpy(&into[where], &chunk[i], 1);
                }
                if (++at == t->pixel_bytes) {
                    at = 0;
                    if (++x == t->width) {
                        x = 0;
                        y++;
                    }
                }
            }
            if (into == NULL && p->write_memory(p->user, start + (uint32_t)done, chunk, (size_t)size)) {
                return BWP_NO_ACCESS;
            }
            done += size;
        }
    }
    return BWP_OK;
}

int bwp_send(const bwp_t *p, const bwp_tensor_t *tensor, const int8_t *values)
{
    return values == NULL ? BWP_BAD_ARGUMENT : move(p, tensor, values, NULL);
}

int bwp_fetch(const bwp_t *p, const bwp_tensor_t *tensor, int8_t *values)
{
    return values == NULL ? BWP_BAD_ARGUMENT : move(p, tensor, NULL, values);
}

int bwp_run(const bwp_t *p, uint32_t address, uint64_t *cycles)
{
    uint32_t value = 0, high = 0;
    int result;
    if ((result = put(p, BWP_STATUS, BWP_STATUS_DONE)) != BWP_OK || (result = put(p, BWP_PROGRAM, address)) != BWP_OK ||
        (result = put(p, BWP_CONTROL, BWP_CONTROL_START | (p->interrupt ? BWP_CONTROL_INTERRUPT : 0u))) != BWP_OK) {
        return result;
    }
    for (;;) {
        if ((result = get(p, BWP_STATUS, &value)) != BWP_OK) {
            return result;
        }
        if (value & BWP_STATUS_DONE) {
            break;
        }
        if (p->wait != NULL && p->wait(p->user)) {
            return BWP_GAVE_UP;
        }
    }
    /* Takes the interrupt line down. */
    if ((result = put(p, BWP_STATUS, BWP_STATUS_DONE)) != BWP_OK) {
        return result;
    }
    if (value & BWP_STATUS_FAULT) {
        return BWP_BUS_FAULT;
    }
    if (cycles != NULL) {
        if ((result = get(p, BWP_CYCLES, &value)) != BWP_OK || (result = get(p, BWP_CYCLES_HIGH, &high)) != BWP_OK) {
            return result;
        }
        *cycles += (uint64_t)high << 32 | value;
    }
    return BWP_OK;
}

int bwp_profile(const bwp_t *p, uint32_t number, uint32_t *cycle)
{
    const int result = put(p, BWP_PROFILE_INDEX, number);
    return result != BWP_OK ? result : get(p, BWP_PROFILE, cycle);
}

uint32_t bwp_crc32(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)data;
    crc = ~crc;
    while (bytes--) {
        int i;
        crc ^= *at++;
        for (i = 0; i < 8; i++) {
            crc = crc >> 1 ^ (crc & 1u ? UINT32_C(0xEDB88320) : 0u);
        }
    }
    return ~crc;
}

const char *bwp_message(int result)
{
    switch (result) {
    case BWP_OK: return "done";
    case BWP_NO_ACCESS: return "memory or registers could not be reached";
    case BWP_NOT_FOUND: return "no processor answers at this address";
    case BWP_OTHER_HARDWARE: return "the processor has another configuration than the network was compiled for";
    case BWP_OTHER_IMAGE: return "the image is not that of this network";
    case BWP_GAVE_UP: return "the processor did not end in time";
    case BWP_BUS_FAULT: return "the bus answered the processor with an error";
    case BWP_BAD_ARGUMENT: return "an argument is missing, or the memory's base is not a multiple of @ALIGNMENT@";
    case BWP_HOST_STEP: return "a step on the host failed";
    default: return "unknown result";
    }
}
