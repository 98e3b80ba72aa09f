/* Convolution of any window, stride, dilation and number of groups.  Weights: [out_c][k_h][k_w][in_c / groups]. */
static void @NAME@_pixel(const bw_conv_t *k, const @IN@ *x, int32_t top, int32_t left, @OUT@ *y)
{
    const int32_t inputs = k->in_c / k->groups, outputs = k->out_c / k->groups;
    const int32_t row = k->k_w * inputs, patch = k->k_h * row;
    /* Taps in one row are neighbors in memory where pixels are. */
    const int joined = k->dilation_w == 1 && k->in_pitch == inputs && left >= 0 && left + k->k_w <= k->in_w;
    const @W@ *w = (const @W@ *)k->weights;
    for (int32_t o = 0; o < k->out_c;) {
        const int32_t inside = o % outputs;
        const int32_t block = outputs - inside >= 4 ? 4 : 1;
        const @IN@ *base = x + o / outputs * inputs;
        int32_t acc[4] = {0, 0, 0, 0};
        if (k->bias != NULL) {
            for (int32_t i = 0; i < block; i++) {
                acc[i] = k->bias[o + i];
            }
        }
        for (int32_t ky = 0; ky < k->k_h; ky++) {
            const int32_t iy = top + ky * k->dilation_h;
            const @W@ *wy = w + ky * row;
            const int rows = iy >= 0 && iy < k->in_h;
            if (rows && joined) {
                const @IN@ *from = base + (iy * k->in_w + left) * k->in_pitch;
                if (block == 4) {
                    bw_dot4_@IO@(from, wy, patch, row, acc);
                } else {
                    acc[0] += bw_dot_@IO@(from, wy, row);
                }
                continue;
            }
            for (int32_t kx = 0; kx < k->k_w; kx++) {
                const int32_t ix = left + kx * k->dilation_w;
                const @W@ *wx = wy + kx * inputs;
                if (rows && ix >= 0 && ix < k->in_w) {
                    const @IN@ *from = base + (iy * k->in_w + ix) * k->in_pitch;
                    if (block == 4) {
                        bw_dot4_@IO@(from, wx, patch, inputs, acc);
                    } else {
                        acc[0] += bw_dot_@IO@(from, wx, inputs);
                    }
                } else if (k->in_zero != 0) {
                    for (int32_t i = 0; i < block; i++) {
                        acc[i] += k->in_zero * bw_sum_@IO@(wx + i * patch, inputs);
                    }
                }
            }
        }
        for (int32_t i = 0; i < block; i++) {
            y[o + i] = (@OUT@)@SCALE@(acc[i], k, o + i);
        }
        o += block;
        w += block * patch;
    }
}

@STATIC@void @NAME@(const bw_conv_t *k, const @IN@ *x, @OUT@ *y)
{
    for (int32_t oy = 0; oy < k->out_h; oy++) {
        for (int32_t ox = 0; ox < k->out_w; ox++) {
            @NAME@_pixel(k, x, oy * k->stride_h - k->pad_h, ox * k->stride_w - k->pad_w, y);
            y += k->out_pitch;
        }
    }
}
