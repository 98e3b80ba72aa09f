/* Kernels for processors with vectors of 128 bits and more.  Numbers are packed when the network is written.

   A tile is all output channels of a few pixels.  The inputs of a pixel lie side by side in a row of its own, as the
   kernel's multiplications want them.  The stream of a tile holds for every block of channels: biases, multipliers, shifts;
   then for every group of inputs the weights of the first channel, of the second, and so on.

   The stream of a depthwise layer holds biases, multipliers and shifts of all channels; then for every tap the weights of
   all channels in 16 bits. */
typedef struct {
    int32_t groups, out_c, zero, lo, hi; /* groups of inputs (taps, if depthwise); channels */
} bw_cpu_t;

typedef void bw_cpu_fn(const void *const *rows, const void *stream, unsigned char *const *out, const bw_cpu_t *t);

typedef struct {
    bw_conv_t conv; /* weights: the stream; mask: bytes of a row */
    bw_cpu_fn *many, *one; /* so many pixels at a time; one */
    int32_t pixels;
} bw_cpu_conv_t;

typedef bw_cpu_conv_t bw_cpu_depthwise_t;
