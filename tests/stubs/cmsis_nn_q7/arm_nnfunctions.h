/* Prototypes of the legacy q7 functions, as far as generated C calls them, written anew for the tests. */
#ifndef ARM_NNFUNCTIONS_H
#define ARM_NNFUNCTIONS_H

#include <stddef.h>
#include <stdint.h>

typedef int8_t q7_t;
typedef int16_t q15_t;
typedef enum { ARM_MATH_SUCCESS = 0, ARM_MATH_SIZE_MISMATCH = -3 } arm_status;

#define Q7_CONVOLUTION(name) \
    arm_status name(const q7_t *x, uint16_t x_w, uint16_t x_h, uint16_t x_c, const q7_t *w, uint16_t y_c, uint16_t k_w, \
        uint16_t k_h, uint16_t pad_w, uint16_t pad_h, uint16_t stride_w, uint16_t stride_h, const q7_t *bias, \
        uint16_t bias_shift, uint16_t out_shift, q7_t *y, uint16_t y_w, uint16_t y_h, q15_t *a, q7_t *b)

Q7_CONVOLUTION(arm_convolve_HWC_q7_basic_nonsquare);
Q7_CONVOLUTION(arm_convolve_HWC_q7_fast_nonsquare);
Q7_CONVOLUTION(arm_convolve_1x1_HWC_q7_fast_nonsquare);
Q7_CONVOLUTION(arm_depthwise_separable_conv_HWC_q7_nonsquare);
arm_status arm_fully_connected_q7(const q7_t *x, const q7_t *w, uint16_t inputs, uint16_t outputs, uint16_t bias_shift,
    uint16_t out_shift, const q7_t *bias, q7_t *y, q15_t *a);
void arm_maxpool_q7_HWC(q7_t *x, uint16_t size, uint16_t channels, uint16_t taps, uint16_t pad, uint16_t stride,
    uint16_t y_size, q7_t *a, q7_t *y);
void arm_avepool_q7_HWC(q7_t *x, uint16_t size, uint16_t channels, uint16_t taps, uint16_t pad, uint16_t stride,
    uint16_t y_size, q7_t *a, q7_t *y);
void arm_relu_q7(q7_t *x, uint16_t count);

#endif
