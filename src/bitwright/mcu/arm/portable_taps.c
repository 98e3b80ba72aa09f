
static void @PREFIX@_taps_@FINISH@(const void *x, const void *stream, void *y, const bw_mve_t *t)
{
    unsigned char *out = (unsigned char *)y;
    for (int32_t o = 0; o < t->out_c; o++) {
        /* The last block holds the last eight channels. */
        const int32_t first = o / 8 * 8 < t->out_c - 8 ? o / 8 * 8 : t->out_c - 8, at = o - first;
        const unsigned char *from = (const unsigned char *)stream + o / 8 * (96 + 8 * t->k);
        const int32_t *numbers = (const int32_t *)(const void *)from + at % 2 * 4 + at / 2;
        const signed char *w = (const signed char *)from + 96 + at;
        int32_t acc = numbers[0];
        for (int32_t i = 0; i < t->k; i++) {
            acc += w[8 * i] * ((const signed char *const *)x)[i][o];
        }
@SCALE@
        acc = (int32_t)(((int64_t)acc + ((int64_t)1 << -numbers[16] >> 1)) >> -numbers[16]);
        out[o] = (unsigned char)bw_clamp(acc + t->zero, t->lo, t->hi);
    }
}
