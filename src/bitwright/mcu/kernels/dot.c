/* Sums of products of n neighbors: one row of weights, or four that lie `stride` apart. */
static inline int32_t bw_dot_@IO@(const @IN@ *x, const @W@ *w, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (int32_t)x[i] * w[i];
    }
    return sum;
}

static inline void bw_dot4_@IO@(const @IN@ *x, const @W@ *w, int32_t stride, int32_t n, int32_t *acc)
{
    const @W@ *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t value = x[i];
        a += value * w[i];
        b += value * w1[i];
        c += value * w2[i];
        d += value * w3[i];
    }
    acc[0] += a;
    acc[1] += b;
    acc[2] += c;
    acc[3] += d;
}

static inline int32_t bw_sum_@IO@(const @W@ *w, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += w[i];
    }
    return sum;
}
