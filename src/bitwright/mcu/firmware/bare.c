/* The least firmware that holds the network: what it takes in flash and RAM. */
#include "@PREFIX@.h"
#include "bw_board.h"

static union {
    int64_t align;
    unsigned char bytes[@UPPER@_ARENA_BYTES];
} arena;
@BUFFERS@

int main(void) { return @PREFIX@_run(@ARGUMENTS@, &arena); }
