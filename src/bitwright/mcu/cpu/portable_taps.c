static void @PREFIX@_taps_@KIND@(const void *const *rows, const void *stream, unsigned char *out, const bw_cpu_t *t,
                                        int is_signed)
{
    const int32_t *numbers = (const int32_t *)stream;
    const int16_t *w = (const int16_t *)(const void *)(numbers + 3 * t->out_c);
    for (int32_t o = 0; o < t->out_c; o++) {
        int32_t acc = numbers[o];
        for (int32_t tap = 0; tap < t->groups; tap++) {
            const int32_t x = is_signed ? ((const int8_t *)rows[tap])[o] : ((const uint8_t *)rows[tap])[o];
            acc += x * w[tap * t->out_c + o];
        }
        out[o] = (unsigned char)@PREFIX@_finish_@KIND@(acc, numbers[t->out_c + o], numbers[2 * t->out_c + o], t);
    }
}
