static void @PREFIX@_expand_@SOURCE@(int32_t pixels, int16_t *patch, const @IN@ *x, int32_t units)
{
    for (int32_t i = 0; i < units; i++, x += 4, patch += 4 * pixels) {
        patch[0] = x[0];
        patch[1] = x[2];
        patch[2 * pixels] = x[1];
        patch[2 * pixels + 1] = x[3];
    }
}

