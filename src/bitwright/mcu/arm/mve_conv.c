/* Convolutions and dense layers, one group: one pixel at a time, its inputs side by side. */
static void @PREFIX@_collect(const bw_conv_t *k, const unsigned char *x, int32_t top, int32_t left, unsigned char *line)
{
    const size_t row = (size_t)k->k_w * (size_t)k->in_c;
    const int joined = k->dilation_w == 1 && k->in_pitch == k->in_c && left >= 0 && left + k->k_w <= k->in_w;
    for (int32_t ky = 0; ky < k->k_h; ky++, line += row) {
        const int32_t iy = top + ky * k->dilation_h;
        if (iy < 0 || iy >= k->in_h) {
            memset(line, k->in_zero, row);
        } else if (joined) {
            memcpy(line, x + (iy * k->in_w + left) * k->in_pitch, row);
        } else {
            for (int32_t kx = 0; kx < k->k_w; kx++) {
                const int32_t ix = left + kx * k->dilation_w;
                if (ix >= 0 && ix < k->in_w) {
                    memcpy(line + kx * k->in_c, x + (iy * k->in_w + ix) * k->in_pitch, (size_t)k->in_c);
                } else {
                    memset(line + kx * k->in_c, k->in_zero, (size_t)k->in_c);
                }
            }
        }
    }
}

void @PREFIX@_bw_mve_conv(const bw_mve_conv_t *d, const void *x, void *y, void *scratch)
{
    const bw_conv_t *k = &d->conv;
    const bw_mve_t t = {k->k_h * k->k_w * k->in_c, k->out_c, k->out_zero, k->lo, k->hi};
    const int plain = k->k_h == 1 && k->k_w == 1 && k->pad_h == 0 && k->pad_w == 0;
    const unsigned char *from = (const unsigned char *)x;
    unsigned char *out = (unsigned char *)y;
    for (int32_t oy = 0; oy < k->out_h; oy++) {
        for (int32_t ox = 0; ox < k->out_w; ox++, out += k->out_pitch) {
            const int32_t top = oy * k->stride_h - k->pad_h, left = ox * k->stride_w - k->pad_w;
            const unsigned char *values = from + (top * k->in_w + left) * k->in_pitch;
            if (!plain || top >= k->in_h || left >= k->in_w) {
                @PREFIX@_collect(k, from, top, left, (unsigned char *)scratch);
                values = (const unsigned char *)scratch;
            }
            d->vectors(values, k->weights, out, &t);
        }
    }
}
