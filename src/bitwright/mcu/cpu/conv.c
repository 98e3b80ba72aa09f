/* Convolutions and dense layers, one group: some pixels at a time, the inputs of each in a row of its own. */
static void @PREFIX@_lay_@SUFFIX@(@ROW@ *to, const @IN@ *from, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = (@ROW@)(from[i]@FLIP@);
    }
}

static void @PREFIX@_pad_@SUFFIX@(@ROW@ *to, int32_t zero, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = (@ROW@)(zero@FLIP@);
    }
}

static void @PREFIX@_row_@SUFFIX@(const bw_conv_t *k, const @IN@ *x, int32_t top, int32_t left, @ROW@ *row)
{
    const int32_t line = k->k_w * k->in_c;
    const int joined = k->dilation_w == 1 && k->in_pitch == k->in_c && left >= 0 && left + k->k_w <= k->in_w;
    for (int32_t ky = 0; ky < k->k_h; ky++, row += line) {
        const int32_t iy = top + ky * k->dilation_h;
        if (iy < 0 || iy >= k->in_h) {
            @PREFIX@_pad_@SUFFIX@(row, k->in_zero, line);
        } else if (joined) {
            @PREFIX@_lay_@SUFFIX@(row, x + (iy * k->in_w + left) * k->in_pitch, line);
        } else {
            for (int32_t kx = 0; kx < k->k_w; kx++) {
                const int32_t ix = left + kx * k->dilation_w;
                if (ix >= 0 && ix < k->in_w) {
                    @PREFIX@_lay_@SUFFIX@(row + kx * k->in_c, x + (iy * k->in_w + ix) * k->in_pitch, k->in_c);
                } else {
                    @PREFIX@_pad_@SUFFIX@(row + kx * k->in_c, k->in_zero, k->in_c);
                }
            }
        }
    }
}

void @PREFIX@_bw_cpu_conv_@SUFFIX@(const bw_cpu_conv_t *d, const void *x, void *y, void *scratch)
{
    const bw_conv_t *k = &d->conv;
    const int32_t total = (int32_t)k->out_h * k->out_w;
    const bw_cpu_t t = {k->mask / @STEP@, k->out_c, k->out_zero, k->lo, k->hi};
    const void *rows[@MOST@];
    unsigned char *out[@MOST@];
    const int32_t used = k->k_h * k->k_w * k->in_c * (int32_t)sizeof(@ROW@);
    const int32_t most = total < d->pixels ? total : d->pixels;
    for (int32_t i = 0; i < most; i++) {
        memset((unsigned char *)scratch + i * k->mask + used, 0, (size_t)(k->mask - used));
    }
    for (int32_t at = 0; at < total;) {
        const int32_t left = total - at, here = left < d->pixels ? left : d->pixels;
        for (int32_t i = 0; i < d->pixels; i++) {
            const int32_t p = i < here ? i : here - 1; /* what is too many repeats the last one */
            unsigned char *row = (unsigned char *)scratch + p * k->mask;
            if (i < here) {
                const int32_t oy = (at + i) / k->out_w, ox = (at + i) % k->out_w;
                @PREFIX@_row_@SUFFIX@(k, (const @IN@ *)x, oy * k->stride_h - k->pad_h, ox * k->stride_w - k->pad_w,
                                      (@ROW@ *)(void *)row);
            }
            rows[i] = row;
            out[i] = (unsigned char *)y + (at + p) * k->out_pitch;
        }
        (here == 1 ? d->one : d->many)(rows, k->weights, out, &t);
        at += here;
    }
}
