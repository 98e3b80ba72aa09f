/* What the vectors compute, for all other machines. */
static int32_t @PREFIX@_finish_@KIND@(int32_t acc, int32_t multiplier, int32_t shift, const bw_cpu_t *t)
{
@SCALE@
    return bw_clamp(acc + t->zero, t->lo, t->hi);
}

