static void @PREFIX@_tile_@KIND@(const void *row, const void *stream, unsigned char *out, const bw_cpu_t *t,
                                        int32_t block, int32_t group, int32_t fold, int kind)
{
    const int32_t depth = t->groups * fold * group, whole = 12 * block + depth * block;
    for (int32_t o = 0; o < t->out_c; o++) {
        const unsigned char *from = (const unsigned char *)stream + o / block * whole;
        const int32_t *numbers = (const int32_t *)(const void *)from + o % block;
        const signed char *w = (const signed char *)from + 12 * block + o % block * group;
        int32_t acc = numbers[0];
        for (int32_t i = 0; i < depth; i++) {
            const int32_t x = kind == 0   ? ((const int8_t *)row)[i]
                              : kind == 1 ? ((const uint8_t *)row)[i]
                                          : ((const int16_t *)row)[i];
            acc += x * w[i / group * group * block + i % group];
        }
        out[o] = (unsigned char)@PREFIX@_finish_@KIND@(acc, numbers[block], numbers[2 * block], t);
    }
}

