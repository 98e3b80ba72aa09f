/* Runs samples from the file in.bin and writes the outputs of each to out.bin. */
#include "@PREFIX@.h"
#include "bw_board.h"
#include "bw_files.h"

static union {
    int64_t align;
    unsigned char bytes[@UPPER@_ARENA_BYTES];
} arena;
@BUFFERS@

int main(void)
{
    const int input = file("in.bin", 6, 1);
    output = file("out.bin", 7, 5);
    if (input < 0 || output < 0) {
        return 72;
    }
    while (@READ@) {
        if (@PREFIX@_run(@ARGUMENTS@, &arena) != 0) {
            return 71;
        }
        @WRITE@
    }
    flush();
    return 0;
}
