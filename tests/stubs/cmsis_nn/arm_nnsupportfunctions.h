#include "arm_nnfunctions.h"

arm_cmsis_nn_status arm_vector_sum_s8(int32_t *sums, int32_t columns, int32_t rows, const int8_t *matrix, int32_t lhs_offset,
    int32_t rhs_offset, const int32_t *bias);
