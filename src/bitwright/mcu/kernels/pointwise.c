/* Dense layers and 1x1 convolutions without stride and padding: every pixel times one matrix.  Weights: [out_c][in_c]. */
@STATIC@void @NAME@(const bw_conv_t *k, const @IN@ *x, @OUT@ *y)
{
    const int32_t pixels = (int32_t)k->out_h * k->out_w, inputs = k->in_c;
    for (int32_t p = 0; p < pixels; p++) {
        const @W@ *w = (const @W@ *)k->weights;
        int32_t o = 0;
        for (; o + 4 <= k->out_c; o += 4) {
            int32_t acc[4] = {0, 0, 0, 0};
            if (k->bias != NULL) {
                memcpy(acc, k->bias + o, sizeof acc);
            }
            bw_dot4_@IO@(x, w, inputs, inputs, acc);
            for (int32_t i = 0; i < 4; i++) {
                y[o + i] = (@OUT@)@SCALE@(acc[i], k, o + i);
            }
            w += 4 * inputs;
        }
        for (; o < k->out_c; o++) {
            const int32_t acc = (k->bias != NULL ? k->bias[o] : 0) + bw_dot_@IO@(x, w, inputs);
            y[o] = (@OUT@)@SCALE@(acc, k, o);
            w += inputs;
        }
        x += k->in_pitch;
        y += k->out_pitch;
    }
}
