/* Kernels for Arm cores with vectors.  A stream holds for every four channels: biases, multipliers, right shifts as negative
   numbers; then the four rows of weights (convolution), or nine times the weights of the four (depthwise). */
typedef struct {
    int32_t k, out_c, zero, lo, hi; /* bytes of a row of weights; channels */
} bw_mve_t;

typedef void bw_vectors_fn(const void *x, const void *stream, void *y, const bw_mve_t *t);

typedef struct {
    bw_conv_t conv;
    bw_vectors_fn *vectors;
} bw_mve_conv_t;

typedef bw_mve_conv_t bw_mve_depthwise_t;
