/* Requantizing with one single-precision product; the multiplier array holds the bits of floats. */
#ifndef BW_KERNELS_FLOAT32
#define BW_KERNELS_FLOAT32

#include <math.h>

static inline float bw_float_of(int32_t pattern)
{
    float value;
    memcpy(&value, &pattern, sizeof value);
    return value;
}

static inline int32_t bw_scale_float32_even(int32_t acc, const bw_conv_t *k, int32_t channel)
{
    const float scaled = (float)acc * bw_float_of(k->multiplier[channel & k->mask]);
    return bw_clamp((int32_t)rintf(scaled) + k->out_zero, k->lo, k->hi);
}

static inline int32_t bw_scale_float32_away(int32_t acc, const bw_conv_t *k, int32_t channel)
{
    const float scaled = (float)acc * bw_float_of(k->multiplier[channel & k->mask]);
    return bw_clamp((int32_t)roundf(scaled) + k->out_zero, k->lo, k->hi);
}

#endif
