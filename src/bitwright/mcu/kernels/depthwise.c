/* One filter per channel: in_c == out_c == groups.  Weights: [k_h][k_w][out_c]. */
@STATIC@void @NAME@(const bw_conv_t *k, const @IN@ *x, @OUT@ *y)
{
    enum { BLOCK = 16 };
    const @W@ *weights = (const @W@ *)k->weights;
    for (int32_t oy = 0; oy < k->out_h; oy++) {
        const int32_t top = oy * k->stride_h - k->pad_h;
        for (int32_t ox = 0; ox < k->out_w; ox++) {
            const int32_t left = ox * k->stride_w - k->pad_w;
            for (int32_t c = 0; c < k->out_c; c += BLOCK) {
                const int32_t block = k->out_c - c < BLOCK ? k->out_c - c : BLOCK;
                int32_t acc[BLOCK] = {0};
                if (k->bias != NULL) {
                    memcpy(acc, k->bias + c, (size_t)block * sizeof acc[0]);
                }
                for (int32_t ky = 0; ky < k->k_h; ky++) {
                    const int32_t iy = top + ky * k->dilation_h;
                    for (int32_t kx = 0; kx < k->k_w; kx++) {
                        const int32_t ix = left + kx * k->dilation_w;
                        const @W@ *w = weights + (ky * k->k_w + kx) * k->out_c + c;
                        if (iy >= 0 && iy < k->in_h && ix >= 0 && ix < k->in_w) {
                            const @IN@ *from = x + (iy * k->in_w + ix) * k->in_pitch + c;
                            for (int32_t i = 0; i < block; i++) {
                                acc[i] += (int32_t)from[i] * w[i];
                            }
                        } else if (k->in_zero != 0) {
                            for (int32_t i = 0; i < block; i++) {
                                acc[i] += k->in_zero * w[i];
                            }
                        }
                    }
                }
                for (int32_t i = 0; i < block; i++) {
                    y[c + i] = (@OUT@)@SCALE@(acc[i], k, c + i);
                }
            }
            y += k->out_pitch;
        }
    }
}
