/* What the int8 functions are documented to compute, from the formulas of TensorFlow Lite's reference kernels.  Buffers are
   overwritten and their size is checked, so that a network that gives too small ones is found. */
#include "arm_nnsupportfunctions.h"

#include <string.h>

static int32_t requantize(int64_t value, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
#ifdef CMSIS_NN_USE_SINGLE_ROUNDING
    const int64_t total = 31 - shift;
    (void)left;
    (void)right;
    return (int32_t)((value * multiplier + ((int64_t)1 << (total - 1))) >> total);
#else
    const int64_t high = (value * ((int64_t)1 << left) * multiplier + ((int64_t)1 << 30)) >> 31;
    if (right == 0) {
        return (int32_t)high;
    }
    const int64_t half = (int64_t)1 << (right - 1), size = high < 0 ? -high : high;
    return (int32_t)(high < 0 ? -((size + half) >> right) : (size + half) >> right);
#endif
}

static int8_t clamp(int32_t value, const cmsis_nn_activation *a)
{
    return (int8_t)(value < a->min ? a->min : value > a->max ? a->max : value);
}

static int32_t padded(int32_t count) { return (count + 3) / 4 * 4; }

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *p, const cmsis_nn_dims *xd,
    const cmsis_nn_dims *fd, const cmsis_nn_dims *yd)
{
    (void)p;
    (void)yd;
    return 4 * padded(fd->h * fd->w * xd->c);
}

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *p, const cmsis_nn_dims *xd,
    const cmsis_nn_dims *fd, const cmsis_nn_dims *yd)
{
    const int small = fd->h == 3 && fd->w == 3 && p->padding.h <= 1 && p->padding.w <= 1;
    return xd->c != yd->c || p->dilation.w != 1 || p->dilation.h != 1 || small ? 0 : 2 * xd->c * fd->h * fd->w;
}

int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *fd)
{
    (void)fd;
    return 0;
}

int32_t arm_avgpool_s8_get_buffer_size(int width, int channels)
{
    (void)width;
    return 4 * channels;
}

/* Writes over the whole buffer; false if it is smaller than it must be. */
static int taken(const cmsis_nn_context *ctx, int32_t bytes)
{
    if (bytes > 0 && (ctx->buf == NULL || ctx->size < bytes)) {
        return 0;
    }
    if (bytes > 0) {
        memset(ctx->buf, 0x5A, (size_t)bytes);
    }
    return 1;
}

arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_conv_params *p,
    const cmsis_nn_per_channel_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y)
{
    if (!taken(ctx, arm_convolve_wrapper_s8_get_buffer_size(p, xd, fd, yd)) || fd->c != xd->c || fd->n != yd->c || bd->c != yd->c) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    for (int32_t at = 0; at < yd->h * yd->w; at++) {
        for (int32_t o = 0; o < yd->c; o++) {
            int32_t acc = b == NULL ? 0 : b[o];
            for (int32_t tap = 0; tap < fd->h * fd->w; tap++) {
                const int32_t iy = at / yd->w * p->stride.h - p->padding.h + tap / fd->w * p->dilation.h;
                const int32_t ix = at % yd->w * p->stride.w - p->padding.w + tap % fd->w * p->dilation.w;
                for (int32_t i = 0; iy >= 0 && iy < xd->h && ix >= 0 && ix < xd->w && i < xd->c; i++) {
                    acc += (x[(iy * xd->w + ix) * xd->c + i] + p->input_offset) * f[(o * fd->h * fd->w + tap) * xd->c + i];
                }
            }
            y[at * yd->c + o] = clamp(requantize(acc, q->multiplier[o], q->shift[o]) + p->output_offset, &p->activation);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *p,
    const cmsis_nn_per_channel_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y)
{
    const int32_t bytes = arm_depthwise_conv_wrapper_s8_get_buffer_size(p, xd, fd, yd);
    if (!taken(ctx, bytes) || xd->c * p->ch_mult != yd->c || fd->c != yd->c || bd->c != yd->c) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    for (int32_t at = 0; at < yd->h * yd->w; at++) {
        for (int32_t o = 0; o < yd->c; o++) {
            int32_t acc = b == NULL ? 0 : b[o];
            for (int32_t tap = 0; tap < fd->h * fd->w; tap++) {
                const int32_t iy = at / yd->w * p->stride.h - p->padding.h + tap / fd->w * p->dilation.h;
                const int32_t ix = at % yd->w * p->stride.w - p->padding.w + tap % fd->w * p->dilation.w;
                if (iy >= 0 && iy < xd->h && ix >= 0 && ix < xd->w) {
                    acc += (x[(iy * xd->w + ix) * xd->c + o / p->ch_mult] + p->input_offset) * f[tap * yd->c + o];
                }
            }
            y[at * yd->c + o] = clamp(requantize(acc, q->multiplier[o], q->shift[o]) + p->output_offset, &p->activation);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx, const cmsis_nn_fc_params *p,
    const cmsis_nn_per_tensor_quant_params *q, const cmsis_nn_dims *xd, const int8_t *x, const cmsis_nn_dims *fd,
    const int8_t *f, const cmsis_nn_dims *bd, const int32_t *b, const cmsis_nn_dims *yd, int8_t *y)
{
    (void)ctx;
    if (fd->n != xd->c || fd->c != yd->c || bd->c != yd->c || p->filter_offset != 0) {
        return ARM_CMSIS_NN_ARG_ERROR;
    }
    for (int32_t o = 0; o < yd->c; o++) {
        int32_t acc = b == NULL ? 0 : b[o];
        for (int32_t i = 0; i < fd->n; i++) {
            acc += (x[i] + p->input_offset) * f[o * fd->n + i];
        }
        y[o] = clamp(requantize(acc, q->multiplier, q->shift) + p->output_offset, &p->activation);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_vector_sum_s8(int32_t *sums, int32_t columns, int32_t rows, const int8_t *matrix, int32_t lhs_offset,
    int32_t rhs_offset, const int32_t *bias)
{
    for (int32_t r = 0; r < rows; r++) {
        sums[r] = bias == NULL ? 0 : bias[r];
        for (int32_t c = 0; c < columns; c++) {
            sums[r] += lhs_offset * (matrix[r * columns + c] + rhs_offset);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *x0, const int8_t *x1, int32_t o0, int32_t m0, int32_t s0,
    int32_t o1, int32_t m1, int32_t s1, int32_t left, int8_t *y, int32_t oy, int32_t my, int32_t sy, int32_t lo, int32_t hi,
    int32_t count)
{
    const cmsis_nn_activation limits = {lo, hi};
    for (int32_t i = 0; i < count; i++) {
        const int64_t a = (int64_t)(x0[i] + o0) * ((int64_t)1 << left), b = (int64_t)(x1[i] + o1) * ((int64_t)1 << left);
        y[i] = clamp(requantize((int64_t)requantize(a, m0, s0) + requantize(b, m1, s1), my, sy) + oy, &limits);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *x0, const int8_t *x1, int32_t o0, int32_t o1, int8_t *y,
    int32_t oy, int32_t my, int32_t sy, int32_t lo, int32_t hi, int32_t count)
{
    const cmsis_nn_activation limits = {lo, hi};
    for (int32_t i = 0; i < count; i++) {
        y[i] = clamp(requantize((int64_t)(x0[i] + o0) * (x1[i] + o1), my, sy) + oy, &limits);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

static arm_cmsis_nn_status pool(const cmsis_nn_pool_params *p, const cmsis_nn_dims *xd, const int8_t *x,
    const cmsis_nn_dims *fd, const cmsis_nn_dims *yd, int8_t *y, int average)
{
    for (int32_t at = 0; at < yd->h * yd->w; at++) {
        for (int32_t c = 0; c < xd->c; c++) {
            int32_t sum = 0, count = 0, most = -128;
            for (int32_t tap = 0; tap < fd->h * fd->w; tap++) {
                const int32_t iy = at / yd->w * p->stride.h - p->padding.h + tap / fd->w;
                const int32_t ix = at % yd->w * p->stride.w - p->padding.w + tap % fd->w;
                if (iy >= 0 && iy < xd->h && ix >= 0 && ix < xd->w) {
                    const int32_t value = x[(iy * xd->w + ix) * xd->c + c];
                    sum += value;
                    count++;
                    most = value > most ? value : most;
                }
            }
            if (count == 0) {
                return ARM_CMSIS_NN_ARG_ERROR;
            }
            const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
            y[at * xd->c + c] = clamp(average ? mean : most, &p->activation);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *p, const cmsis_nn_dims *xd,
    const int8_t *x, const cmsis_nn_dims *fd, const cmsis_nn_dims *yd, int8_t *y)
{
    return taken(ctx, 4 * xd->c) ? pool(p, xd, x, fd, yd, y, 1) : ARM_CMSIS_NN_ARG_ERROR;
}

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *p, const cmsis_nn_dims *xd,
    const int8_t *x, const cmsis_nn_dims *fd, const cmsis_nn_dims *yd, int8_t *y)
{
    (void)ctx;
    return pool(p, xd, x, fd, yd, y, 0);
}
