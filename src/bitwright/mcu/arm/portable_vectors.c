static void @PREFIX@_vectors_@FINISH@(const void *x, const void *stream, void *y, const bw_mve_t *t, int nine)
{
    const int32_t block = nine ? 84 : 48 + 4 * t->k, taps = nine ? 9 : t->k;
    unsigned char *out = (unsigned char *)y;
    for (int32_t o = 0; o < t->out_c; o++) {
        const unsigned char *from = (const unsigned char *)stream + o / 4 * block;
        const int32_t *numbers = (const int32_t *)(const void *)from + o % 4;
        const signed char *w = (const signed char *)from + 48;
        int32_t acc = numbers[0];
        for (int32_t i = 0; i < taps; i++) {
            if (nine) {
                acc += w[4 * i + o % 4] * ((const signed char *const *)x)[i][o];
            } else {
                acc += w[o % 4 * t->k + i] * ((const signed char *)x)[i];
            }
        }
@SCALE@
        acc = (int32_t)(((int64_t)acc + ((int64_t)1 << -numbers[8] >> 1)) >> -numbers[8]);
        out[o] = (unsigned char)bw_clamp(acc + t->zero, t->lo, t->hi);
    }
}
