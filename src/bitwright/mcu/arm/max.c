/* The largest value of every channel in a window, many channels at a time; lo: the least that comes out. */
void @NAME@(const bw_conv_t *k, const @IN@ *x, @IN@ *y)
{
    for (int32_t oy = 0; oy < k->out_h; oy++) {
        const int32_t top = oy * k->stride_h - k->pad_h;
        for (int32_t ox = 0; ox < k->out_w; ox++, y += k->out_pitch) {
            const int32_t left = ox * k->stride_w - k->pad_w;
            int32_t first_y = 0, end_y = k->k_h, first_x = 0, end_x = k->k_w, c = 0;
            while (first_y < end_y && top + first_y * k->dilation_h < 0) {
                first_y++;
            }
            while (end_y > first_y && top + (end_y - 1) * k->dilation_h >= k->in_h) {
                end_y--;
            }
            while (first_x < end_x && left + first_x * k->dilation_w < 0) {
                first_x++;
            }
            while (end_x > first_x && left + (end_x - 1) * k->dilation_w >= k->in_w) {
                end_x--;
            }
            const int32_t row = k->dilation_h * k->in_w * k->in_pitch, column = k->dilation_w * k->in_pitch;
            const @IN@ *corner = x + ((top + first_y * k->dilation_h) * k->in_w + left + first_x * k->dilation_w) * k->in_pitch;
            const int32_t rows = end_y - first_y, columns = end_x - first_x;
#if defined(__ARM_FEATURE_MVE)
            for (; c < k->out_c; c += 16) {
                const mve_pred16_t some = vctp8q((uint32_t)(k->out_c - c));
                @VECTOR@ most = vdupq_n_@TYPE@((@IN@)k->lo);
                for (int32_t ky = 0; ky < rows; ky++) {
                    for (int32_t kx = 0; kx < columns; kx++) {
                        most = vmaxq_@TYPE@(most, vldrbq_z_@TYPE@(corner + ky * row + kx * column + c, some));
                    }
                }
                vstrbq_p_@TYPE@(y + c, most, some);
            }
#elif defined(__ARM_FEATURE_SIMD32)
            for (; c + 4 <= k->out_c; c += 4) {
                uint32_t most = (uint32_t)(k->lo & 255) * 0x01010101u;
                for (int32_t ky = 0; ky < rows; ky++) {
                    const @IN@ *from = corner + ky * row + c;
                    for (int32_t kx = 0; kx < columns; kx++, from += column) {
                        uint32_t four;
                        memcpy(&four, from, sizeof four);
                        (void)__@SUB@(most, four); /* sets a flag for every byte that is not less */
                        most = (uint32_t)__sel(most, four);
                    }
                }
                memcpy(y + c, &most, sizeof most);
            }
#else
            for (; c + 16 <= k->out_c; c += 16) { /* in a form that compilers turn into vectors */
                @IN@ most[16];
                for (int32_t i = 0; i < 16; i++) {
                    most[i] = (@IN@)k->lo;
                }
                for (int32_t ky = 0; ky < rows; ky++) {
                    for (int32_t kx = 0; kx < columns; kx++) {
                        const @IN@ *from = corner + ky * row + kx * column + c;
                        for (int32_t i = 0; i < 16; i++) {
                            most[i] = from[i] > most[i] ? from[i] : most[i];
                        }
                    }
                }
                memcpy(y + c, most, sizeof most);
            }
#endif
            for (; c < k->out_c; c++) {
                int32_t most = k->lo;
                for (int32_t ky = 0; ky < rows; ky++) {
                    for (int32_t kx = 0; kx < columns; kx++) {
                        const int32_t value = corner[ky * row + kx * column + c];
                        most = value > most ? value : most;
                    }
                }
                y[c] = (@IN@)most;
            }
        }
    }
}
