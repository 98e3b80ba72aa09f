
static void @PREFIX@_taps_@FINISH@(int is_signed, const void *const *taps, const uint32_t *stream, void *y, const bw_taps_t *t)
{
    unsigned char *out = (unsigned char *)y;
    for (int32_t o = 0; o < t->out_c; o++) {
        /* The last block holds the last four channels. */
        const int32_t first = o / 4 * 4 < t->out_c - 4 ? o / 4 * 4 : t->out_c - 4, at = o - first;
        const uint32_t *from = stream + o / 4 * (2 * t->taps + (@MULTIPLIES@ ? 12 : 8));
        int32_t acc = (int32_t)from[at];
        for (int32_t i = 0; i < t->taps; i++) {
            const int32_t weight = (int16_t)(from[4 + 2 * i + at % 2] >> 16 * (at / 2) & 65535u);
            const int32_t x = is_signed ? ((const int8_t *)taps[i])[o] : ((const uint8_t *)taps[i])[o];
            acc += weight * x;
        }
        out[o] = (unsigned char)@PREFIX@_finish_@FINISH@(acc, from + 4 + 2 * t->taps + at, 0, 4, t->offset, t->lo, t->hi);
    }
}
