/* What all kernels share.  C99; no allocation, no state, nothing from libc but memcpy and memset. */
#ifndef BW_KERNELS_INTERNAL
#define BW_KERNELS_INTERNAL

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Put constants where the linker script wants them: -DBW_WEIGHTS_SECTION='__attribute__((section(".weights")))' */
#ifndef BW_WEIGHTS_SECTION
#define BW_WEIGHTS_SECTION
#endif

/* The kernels shift negative numbers to the right and mean the floor; every compiler that we know does that. */
typedef char bw_needs_arithmetic_shift[(-3 >> 1) == -2 ? 1 : -1];

/* One contraction: convolution, depthwise convolution or dense layer.  Tensors lie channels last: element (row,
   column, channel) of the input is x[(row * in_w + column) * in_pitch + channel]. */
typedef struct {
    const void *weights;       /* packed as the kernel says */
    const int32_t *bias;       /* [out_c], b - in_zero * (sum of the channel's weights); NULL: all 0 */
    const int32_t *multiplier; /* [out_c], or one (see mask) */
    const int8_t *shift;       /* [out_c], or one */
    int32_t mask;              /* -1: multiplier and shift differ from channel to channel; 0: one for all */
    int32_t in_zero;           /* zero point of the input, and what lies outside of it */
    int32_t out_zero, lo, hi;  /* added after scaling; then clamped to [lo, hi] */
    int32_t in_c, in_pitch;    /* channels; elements from one pixel to the next, >= in_c */
    int32_t out_c, out_pitch;
    uint16_t in_h, in_w, out_h, out_w;
    uint16_t k_h, k_w, stride_h, stride_w, dilation_h, dilation_w;
    int16_t pad_h, pad_w; /* rows above, columns to the left; what lies below and to the right follows */
    uint16_t groups;
} bw_conv_t;

static inline int32_t bw_clamp(int32_t x, int32_t lo, int32_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* The requantizers; formulas in bitwright's number/requantize.py.  Ranges are proven for each layer before this text
   is written, so nothing overflows. */
static inline int32_t bw_requant_shift(int32_t acc, int32_t shift)
{
    return (acc + ((1 << shift) >> 1)) >> shift;
}

static inline int32_t bw_requant_single(int32_t acc, int32_t multiplier, int32_t shift)
{
    return (int32_t)(((int64_t)acc * multiplier + ((int64_t)1 << (shift - 1))) >> shift);
}

static inline int32_t bw_requant_double(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift < 0 ? -shift : 0, right = shift > 0 ? shift : 0;
    const int32_t high = (int32_t)(((int64_t)acc * ((int64_t)multiplier << left) + (1 << 30)) >> 31);
    return right == 0 ? high : (high - (high < 0) + ((1 << right) >> 1)) >> right;
}

static inline int32_t bw_scale_shift(int32_t acc, const bw_conv_t *k, int32_t channel)
{
    return bw_clamp(bw_requant_shift(acc, k->shift[channel & k->mask]) + k->out_zero, k->lo, k->hi);
}

static inline int32_t bw_scale_single(int32_t acc, const bw_conv_t *k, int32_t channel)
{
    const int32_t c = channel & k->mask;
    return bw_clamp(bw_requant_single(acc, k->multiplier[c], k->shift[c]) + k->out_zero, k->lo, k->hi);
}

static inline int32_t bw_scale_double(int32_t acc, const bw_conv_t *k, int32_t channel)
{
    const int32_t c = channel & k->mask;
    return bw_clamp(bw_requant_double(acc, k->multiplier[c], k->shift[c]) + k->out_zero, k->lo, k->hi);
}

#endif
