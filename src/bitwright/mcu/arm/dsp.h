/* Kernels for Arm cores with the DSP extension.  Numbers are packed when the network is written:

   A tile is all output channels of up to four pixels.  Its patch holds the inputs of those pixels as 16-bit values, in
   groups of four k's: for each pixel the pair (0, 2), then for each pixel the pair (1, 3).  Its stream holds for every two
   channels: both biases; for every four k's two words with the bytes of (first k0, second k0, first k2, second k2) and
   of k1 and k3 likewise; both multipliers, if there are any, as 2m - 2^32 or (single rounding) m; one word with both
   shifts in its lowest two bytes.  Rows of the window are padded to whole groups.

   A strip is two output rows of four channels (one row at stride 2).  Its ring holds for every column, for each of the
   four channels, two pairs of rows.  Its stream holds for every channel the weights of the three columns as (row 0,
   row 1), (row 1, row 2); the bias; the multiplier; the shift.

   Depthwise windows of other shapes go four channels at a time.  Their stream holds for every four channels the biases; for
   every tap the weights as 16-bit pairs, those of the first and third channel, then the others; multipliers; shifts. */
typedef struct {
    int32_t units; /* groups of four k's */
    const uint32_t *end;
    int32_t pitch, offset, lo, hi;
} bw_tile_t;

typedef struct {
    int32_t ring_bytes, row_pitch, pitch, offset, lo, hi;
} bw_strip_t;

typedef struct {
    int32_t taps, out_c, offset, lo, hi;
} bw_taps_t;

typedef void bw_taps_fn(const void *const *taps, const uint32_t *stream, void *y, const bw_taps_t *t);
typedef void bw_tile_fn(const int16_t *patch, const uint32_t *stream, void *y, const bw_tile_t *t);
typedef void bw_expand_fn(int16_t *patch, const void *x, int32_t units);
typedef void bw_columns_fn(int16_t *ring, const void *a, const void *b, int32_t columns, int32_t pitch_a, int32_t pitch_b);
typedef void bw_strip_fn(const int16_t *ring, const uint32_t *stream, void *y, const bw_strip_t *t);

typedef struct {
    bw_conv_t conv;                /* weights: the stream; out_zero: what is added before the last halving */
    bw_tile_fn *tile, *rest;       /* for four pixels; for those that are left */
    bw_expand_fn *expand, *expand_rest;
} bw_dsp_conv_t;

typedef struct {
    bw_conv_t conv;
    bw_columns_fn *columns;
    bw_strip_fn *even, *odd; /* lower rows in the second slot, in the first */
    int32_t record; /* words of a channel in the stream */
} bw_dsp_depthwise_t;

typedef struct {
    bw_conv_t conv;
    bw_taps_fn *taps;
} bw_dsp_taps_t;
