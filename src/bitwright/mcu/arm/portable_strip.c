static void @PREFIX@_strip_@FINISH@(int32_t stride, int32_t odd, const int16_t *ring, const uint32_t *stream, void *y,
                                    const bw_strip_t *t)
{
    for (int32_t c = 0; c < 4; c++, stream += @MULTIPLIES@ ? 9 : 8) {
        unsigned char *out = (unsigned char *)y + c;
        for (int32_t at = 0; at < t->ring_bytes / 2; at += 16 * stride, out += t->pitch) {
            for (int32_t r = stride == 1 ? 1 : 0; r >= 0; r--) {
                int32_t acc = (int32_t)stream[6];
                for (int32_t tap = 0; tap < 9; tap++) {
                    const int32_t row = tap / 3 + r, column = tap % 3;
                    const uint32_t word = stream[2 * column + (tap / 3 == 2)];
                    const int32_t weight = (int16_t)(word >> (tap / 3 == 0 ? 0 : tap / 3 == 1 ? 16 : 16) & 65535u);
                    acc += weight * ring[at + 16 * column + 4 * c + 2 * ((row / 2) ^ odd) + row % 2];
                }
                out[r * t->row_pitch] = (unsigned char)@PREFIX@_finish_@FINISH@(acc, stream + 7, 0, 1, t->offset, t->lo, t->hi);
            }
        }
    }
}
