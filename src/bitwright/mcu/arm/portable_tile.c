static void @PREFIX@_tile_@FINISH@(int32_t pixels, const int16_t *patch, const uint32_t *stream, void *y, const bw_tile_t *t)
{
    unsigned char *out = (unsigned char *)y;
    for (; stream != t->end; stream += 2 * t->units + (@MULTIPLIES@ ? 5 : 3), out += 2) {
        for (int32_t c = 0; c < 2; c++) {
            for (int32_t p = 0; p < pixels; p++) {
                int32_t acc = (int32_t)stream[c];
                for (int32_t i = 0; i < 4 * t->units; i++) {
                    const uint32_t word = stream[2 + i / 2];
                    const int32_t weight = (int8_t)(word >> (8 * c + 16 * (i % 2)) & 255u);
                    acc += weight * patch[(i / 2 * pixels + p) * 2 + i % 2];
                }
                out[p * t->pitch + c] = (unsigned char)@PREFIX@_finish_@FINISH@(
                    acc, stream + 2 + 2 * t->units + (@MULTIPLIES@ ? c : 0), c, 2 - c, t->offset, t->lo, t->hi);
            }
        }
    }
}

