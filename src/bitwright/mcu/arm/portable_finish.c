/* What the assembly computes, for all other machines. */
static int32_t @PREFIX@_finish_@FINISH@(int32_t acc, const uint32_t *numbers, int32_t which, int32_t count, int32_t offset,
                                        int32_t lo, int32_t hi)
{
    const int32_t shift = (int32_t)(numbers[@MULTIPLIES@ ? count : 0] >> 8 * which & 255u);
@SCALE@
    return bw_clamp(acc, lo, hi);
}

