/* Depthwise convolutions with 3x3 windows: four channels at a time, each input read once. */
static void @PREFIX@_rows(const bw_dsp_depthwise_t *d, const unsigned char *x, int32_t pair, int32_t first, int32_t columns,
                          const unsigned char *outside, int16_t *ring)
{
    const bw_conv_t *k = &d->conv;
    const unsigned char *rows[2];
    int32_t pitch[2];
    for (int32_t i = 0; i < 2; i++) {
        const int32_t iy = 2 * pair + i - k->pad_h;
        const int inside = iy >= 0 && iy < k->in_h;
        rows[i] = inside ? x + (iy * k->in_w + first - k->pad_w) * k->in_pitch : outside;
        pitch[i] = inside ? k->in_pitch : 0;
    }
    d->columns(ring + 16 * first + 2 * (pair & 1), rows[0], rows[1], columns, pitch[0], pitch[1]);
}

void @PREFIX@_bw_dsp_depthwise(const bw_dsp_depthwise_t *d, const void *x, void *y, void *scratch)
{
    const bw_conv_t *k = &d->conv;
    const int32_t columns = (k->out_w - 1) * k->stride_w + 3, rows = k->stride_h == 1 ? 2 : 1;
    const int32_t first = k->pad_w > 0 ? k->pad_w : 0;
    const int32_t beyond = columns < k->in_w + k->pad_w ? columns : k->in_w + k->pad_w;
    const unsigned char zero = (unsigned char)k->in_zero;
    const unsigned char outside[4] = {zero, zero, zero, zero};
    int16_t *ring = (int16_t *)scratch;
    for (int32_t i = 0; i < 16 * first; i++) {
        ring[i] = (int16_t)k->in_zero;
    }
    for (int32_t i = 16 * beyond; i < 16 * columns; i++) {
        ring[i] = (int16_t)k->in_zero;
    }
    for (int32_t group = 0; group < k->out_c; group += 4) {
        const int32_t c = group + 4 <= k->out_c ? group : k->out_c - 4;
        const uint32_t *stream = (const uint32_t *)k->weights + c * d->record;
        const unsigned char *from = (const unsigned char *)x + c;
        unsigned char *out = (unsigned char *)y + c;
        @PREFIX@_rows(d, from, 0, first, beyond - first, outside, ring);
        for (int32_t oy = 0, pair = 0; oy < k->out_h; oy += rows, pair++) {
            const bw_strip_t strip = {k->out_w * k->stride_w * 32,
                                      oy + 1 < k->out_h ? k->out_w * k->out_pitch : 0,
                                      k->out_pitch, k->out_zero, k->lo, k->hi};
            @PREFIX@_rows(d, from, pair + 1, first, beyond - first, outside, ring);
            (pair % 2 == 0 ? d->even : d->odd)(ring, stream, out, &strip);
            out += rows * k->out_w * k->out_pitch;
        }
    }
}
