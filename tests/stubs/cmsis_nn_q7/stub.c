/* What the q7 functions are documented to compute: ((bias << bias_shift) + half + sum) >> out_shift, saturated.  As the real
   ones may, the maximum destroys its input and buffers are overwritten. */
#include "arm_nnfunctions.h"

#include <string.h>

static q7_t saturate(int32_t value) { return (q7_t)(value < -128 ? -128 : value > 127 ? 127 : value); }

static int32_t start(q7_t bias, uint16_t bias_shift, uint16_t out_shift)
{
    return (int32_t)bias * (1 << bias_shift) + ((1 << out_shift) >> 1);
}

Q7_CONVOLUTION(arm_convolve_HWC_q7_basic_nonsquare)
{
    (void)b;
    memset(a, 0x5A, 2u * 2 * x_c * k_w * k_h);
    for (int32_t at = 0; at < y_h * y_w; at++) {
        for (int32_t o = 0; o < y_c; o++) {
            int32_t acc = start(bias[o], bias_shift, out_shift);
            for (int32_t tap = 0; tap < k_h * k_w; tap++) {
                const int32_t iy = at / y_w * stride_h - pad_h + tap / k_w, ix = at % y_w * stride_w - pad_w + tap % k_w;
                for (int32_t i = 0; iy >= 0 && iy < x_h && ix >= 0 && ix < x_w && i < x_c; i++) {
                    acc += x[(iy * x_w + ix) * x_c + i] * w[(o * k_h * k_w + tap) * x_c + i];
                }
            }
            y[at * y_c + o] = saturate(acc >> out_shift);
        }
    }
    return ARM_MATH_SUCCESS;
}

#define SAME x, x_w, x_h, x_c, w, y_c, k_w, k_h, pad_w, pad_h, stride_w, stride_h, bias, bias_shift, out_shift, y, y_w, y_h, a, b

Q7_CONVOLUTION(arm_convolve_HWC_q7_fast_nonsquare)
{
    const int inside = (y_h - 1 - pad_h) * stride_h - pad_h + k_h <= x_h && (y_w - 1 - pad_w) * stride_w - pad_w + k_w <= x_w;
    return x_c % 4 || y_c % 2 || !inside ? ARM_MATH_SIZE_MISMATCH : arm_convolve_HWC_q7_basic_nonsquare(SAME);
}

Q7_CONVOLUTION(arm_convolve_1x1_HWC_q7_fast_nonsquare)
{
    const int plain = k_w == 1 && k_h == 1 && pad_w == 0 && pad_h == 0 && stride_w == 1 && stride_h == 1;
    return !plain ? ARM_MATH_SIZE_MISMATCH : arm_convolve_HWC_q7_fast_nonsquare(SAME);
}

Q7_CONVOLUTION(arm_depthwise_separable_conv_HWC_q7_nonsquare)
{
    (void)b;
    if (x_c != y_c) {
        return ARM_MATH_SIZE_MISMATCH;
    }
    memset(a, 0x5A, 2u * x_c * k_w * k_h);
    for (int32_t at = 0; at < y_h * y_w; at++) {
        for (int32_t o = 0; o < y_c; o++) {
            int32_t acc = start(bias[o], bias_shift, out_shift);
            for (int32_t tap = 0; tap < k_h * k_w; tap++) {
                const int32_t iy = at / y_w * stride_h - pad_h + tap / k_w, ix = at % y_w * stride_w - pad_w + tap % k_w;
                if (iy >= 0 && iy < x_h && ix >= 0 && ix < x_w) {
                    acc += x[(iy * x_w + ix) * x_c + o] * w[tap * y_c + o];
                }
            }
            y[at * y_c + o] = saturate(acc >> out_shift);
        }
    }
    return ARM_MATH_SUCCESS;
}

arm_status arm_fully_connected_q7(const q7_t *x, const q7_t *w, uint16_t inputs, uint16_t outputs, uint16_t bias_shift,
    uint16_t out_shift, const q7_t *bias, q7_t *y, q15_t *a)
{
    memset(a, 0x5A, 2u * inputs);
    for (int32_t o = 0; o < outputs; o++) {
        int32_t acc = start(bias[o], bias_shift, out_shift);
        for (int32_t i = 0; i < inputs; i++) {
            acc += x[i] * w[o * inputs + i];
        }
        y[o] = saturate(acc >> out_shift);
    }
    return ARM_MATH_SUCCESS;
}

static void pool(const q7_t *x, int32_t size, int32_t channels, int32_t taps, int32_t pad, int32_t stride, int32_t y_size,
    q7_t *y, int average)
{
    for (int32_t at = 0; at < y_size * y_size; at++) {
        for (int32_t c = 0; c < channels; c++) {
            int32_t sum = 0, count = 0, most = -129;
            for (int32_t tap = 0; tap < taps * taps; tap++) {
                const int32_t iy = at / y_size * stride - pad + tap / taps, ix = at % y_size * stride - pad + tap % taps;
                if (iy >= 0 && iy < size && ix >= 0 && ix < size) {
                    const int32_t value = x[(iy * size + ix) * channels + c];
                    sum += value;
                    count++;
                    most = value > most ? value : most;
                }
            }
            y[at * channels + c] = (q7_t)(average ? sum / count : most);
        }
    }
}

void arm_maxpool_q7_HWC(q7_t *x, uint16_t size, uint16_t channels, uint16_t taps, uint16_t pad, uint16_t stride,
    uint16_t y_size, q7_t *a, q7_t *y)
{
    (void)a;
    pool(x, size, channels, taps, pad, stride, y_size, y, 0);
    memset(x, 0x5A, (size_t)size * size * channels);
}

void arm_avepool_q7_HWC(q7_t *x, uint16_t size, uint16_t channels, uint16_t taps, uint16_t pad, uint16_t stride,
    uint16_t y_size, q7_t *a, q7_t *y)
{
    memset(a, 0x5A, 2u * y_size * channels);
    pool(x, size, channels, taps, pad, stride, y_size, y, 1);
}

void arm_relu_q7(q7_t *x, uint16_t count)
{
    for (int32_t i = 0; i < count; i++) {
        x[i] = (q7_t)(x[i] < 0 ? 0 : x[i]);
    }
}
