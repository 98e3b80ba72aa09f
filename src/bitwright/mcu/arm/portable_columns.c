static void @PREFIX@_columns_@SOURCE@(int16_t *ring, const @IN@ *a, const @IN@ *b, int32_t columns, int32_t pitch_a,
                                      int32_t pitch_b)
{
    for (; columns > 0; columns--, ring += 16, a += pitch_a, b += pitch_b) {
        for (int32_t c = 0; c < 4; c++) {
            ring[4 * c] = a[c];
            ring[4 * c + 1] = b[c];
        }
    }
}
