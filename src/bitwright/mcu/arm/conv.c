/* Convolutions and dense layers, one group: four pixels at a time. */
static void @PREFIX@_gather(const bw_conv_t *k, const unsigned char *x, int32_t oy, int32_t ox, int16_t *patch, int32_t pixels,
                            bw_expand_fn *expand, unsigned char *line)
{
    const int32_t row = k->k_w * k->in_c, units = (row + 3) / 4;
    const int32_t left = ox * k->stride_w - k->pad_w;
    const unsigned char *end = x + ((int32_t)k->in_h * k->in_w - 1) * k->in_pitch + k->in_c;
    const int joined = k->dilation_w == 1 && k->in_pitch == k->in_c && left >= 0 && left + k->k_w <= k->in_w;
    for (int32_t ky = 0; ky < k->k_h; ky++) {
        const int32_t iy = oy * k->stride_h - k->pad_h + ky * k->dilation_h;
        const unsigned char *from = line;
        if (iy >= 0 && iy < k->in_h && (joined || k->k_w == 1)
            && (k->k_w > 1 || (left >= 0 && left < k->in_w))
            && x + (iy * k->in_w + left) * k->in_pitch + 4 * units <= end) {
            from = x + (iy * k->in_w + left) * k->in_pitch;
        } else if (iy < 0 || iy >= k->in_h) {
            memset(line, k->in_zero, 4 * (size_t)units);
        } else {
            for (int32_t kx = 0; kx < k->k_w; kx++) {
                const int32_t ix = left + kx * k->dilation_w;
                if (ix >= 0 && ix < k->in_w) {
                    memcpy(line + kx * k->in_c, x + (iy * k->in_w + ix) * k->in_pitch, (size_t)k->in_c);
                } else {
                    memset(line + kx * k->in_c, k->in_zero, (size_t)k->in_c);
                }
            }
            memset(line + row, 0, 4 * (size_t)units - (size_t)row);
        }
        expand(patch, from, units);
        patch += units * 4 * pixels;
    }
}

void @PREFIX@_bw_dsp_conv(const bw_dsp_conv_t *d, const void *x, void *y, void *scratch)
{
    const bw_conv_t *k = &d->conv;
    const int32_t total = (int32_t)k->out_h * k->out_w, most = total < 4 ? total : 4;
    const int32_t units = k->k_h * ((k->k_w * k->in_c + 3) / 4);
    int16_t *patch = (int16_t *)scratch;
    unsigned char *line = (unsigned char *)(patch + 4 * units * most), *out = (unsigned char *)y;
    const uint32_t *stream = (const uint32_t *)k->weights, *last = stream + (k->out_c / 2) * k->mask;
    const bw_tile_t tile = {units, last, k->out_pitch, k->out_zero, k->lo, k->hi};
    const bw_tile_t odd = {units, last + k->mask, 2, k->out_zero, k->lo, k->hi};
    int32_t oy = 0, ox = 0;
    for (int32_t at = 0; at < total;) {
        const int32_t pixels = total - at < 4 ? total - at : 4;
        bw_expand_fn *expand = pixels == 4 ? d->expand : d->expand_rest;
        bw_tile_fn *run = pixels == 4 ? d->tile : d->rest;
        for (int32_t i = 0; i < pixels; i++) {
            @PREFIX@_gather(k, (const unsigned char *)x, oy, ox, patch + 2 * i, pixels, expand, line);
            if (++ox == k->out_w) {
                ox = 0;
                oy++;
            }
        }
        if (k->out_c > 1) {
            run(patch, stream, out, &tile);
        }
        if (k->out_c % 2 != 0) {
            unsigned char found[8];
            run(patch, last, found, &odd);
            for (int32_t i = 0; i < pixels; i++) {
                out[i * k->out_pitch + k->out_c - 1] = found[2 * i];
            }
        }
        out += pixels * k->out_pitch;
        at += pixels;
    }
}
