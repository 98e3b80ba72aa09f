/* Depthwise convolutions of any window: one pixel at a time, all channels. */
void @DRIVER@(const @DESCRIPTION@ *d, const void *x, void *y, void *scratch)
{
    const bw_conv_t *k = &d->conv;
    const @SHAPE@ t = {k->k_h * k->k_w, k->out_c, k->out_zero, k->lo, k->hi};
    const unsigned char *from = (const unsigned char *)x;
    const void *taps[@MOST@];
    unsigned char *out = (unsigned char *)y, *outside = (unsigned char *)scratch;
    memset(outside, k->in_zero, (size_t)k->in_c);
    for (int32_t oy = 0; oy < k->out_h; oy++) {
        for (int32_t ox = 0; ox < k->out_w; ox++, out += k->out_pitch) {
            const int32_t top = oy * k->stride_h - k->pad_h, left = ox * k->stride_w - k->pad_w;
            const void **tap = taps;
            for (int32_t ky = 0; ky < k->k_h; ky++) {
                const int32_t iy = top + ky * k->dilation_h;
                for (int32_t kx = 0; kx < k->k_w; kx++, tap++) {
                    const int32_t ix = left + kx * k->dilation_w;
                    const int inside = iy >= 0 && iy < k->in_h && ix >= 0 && ix < k->in_w;
                    *tap = inside ? from + (iy * k->in_w + ix) * k->in_pitch : outside;
                }
            }
            @CALL@;
        }
    }
}
