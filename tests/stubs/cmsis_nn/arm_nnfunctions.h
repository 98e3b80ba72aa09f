/* Prototypes of CMSIS-NN's int8 functions, as far as generated C calls them, written anew for the tests. */
#ifndef ARM_NNFUNCTIONS_H
#define ARM_NNFUNCTIONS_H

#include <stddef.h>
#include <stdint.h>

typedef enum { ARM_CMSIS_NN_SUCCESS = 0, ARM_CMSIS_NN_ARG_ERROR = -1 } arm_cmsis_nn_status;
typedef struct { void *buf; int32_t size; } cmsis_nn_context;
typedef struct { int32_t w, h; } cmsis_nn_tile;
typedef struct { int32_t n, h, w, c; } cmsis_nn_dims;
typedef struct { int32_t min, max; } cmsis_nn_activation;
typedef struct { int32_t *multiplier, *shift; } cmsis_nn_per_channel_quant_params;
typedef struct { int32_t multiplier, shift; } cmsis_nn_per_tensor_quant_params;
typedef struct {
    int32_t input_offset, output_offset;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_conv_params;
typedef struct {
    int32_t input_offset, output_offset, ch_mult;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_dw_conv_params;
typedef struct { cmsis_nn_tile stride, padding; cmsis_nn_activation activation; } cmsis_nn_pool_params;
typedef struct { int32_t input_offset, filter_offset, output_offset; cmsis_nn_activation activation; } cmsis_nn_fc_params;

arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_conv_params *p,
    const cmsis_nn_per_channel_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y);
int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *p, const cmsis_nn_dims *xd,
    const cmsis_nn_dims *fd, const cmsis_nn_dims *yd);
arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *p,
    const cmsis_nn_per_channel_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y);
int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *p, const cmsis_nn_dims *xd,
    const cmsis_nn_dims *fd, const cmsis_nn_dims *yd);
arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx, const cmsis_nn_fc_params *p,
    const cmsis_nn_per_tensor_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y);
int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *fd);
arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *x0, const int8_t *x1, int32_t o0, int32_t m0, int32_t s0,
    int32_t o1, int32_t m1, int32_t s1, int32_t left, int8_t *y, int32_t oy, int32_t my, int32_t sy, int32_t lo, int32_t hi,
    int32_t count);
arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *x0, const int8_t *x1, int32_t o0, int32_t o1, int8_t *y,
    int32_t oy, int32_t my, int32_t sy, int32_t lo, int32_t hi, int32_t count);
arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *p, const cmsis_nn_dims *xd,
    const int8_t *x, const cmsis_nn_dims *fd, const cmsis_nn_dims *yd, int8_t *y);
int32_t arm_avgpool_s8_get_buffer_size(int width, int channels);
arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *p, const cmsis_nn_dims *xd,
    const int8_t *x, const cmsis_nn_dims *fd, const cmsis_nn_dims *yd, int8_t *y);

#endif
