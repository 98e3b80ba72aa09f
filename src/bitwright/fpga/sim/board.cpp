// A board as CXXRTL wrote it: its serial line at the pins, and its memory chip.
#include "processor.cc"
#ifdef WITH_SDRAM
#include "sdram.hpp"
#endif
#include <cstring>
#include <deque>

struct Board {
    cxxrtl_design::p_board top;
    uint32_t divisor;
    std::deque<uint8_t> to_board, from_board;
    // Serial line: bits left, cycles left of the bit, what is shifted.
    uint32_t out_left = 0, out_count = 0, out_bits = 0, in_left = 0, in_count = 0, in_bits = 0;
    uint64_t cycles = 0, busy = 0;
#ifdef WITH_SDRAM
    Sdram chip;
    Board(uint32_t divisor, const SdramTimes &times, double clock_hz) : divisor(divisor), chip(times, clock_hz) { wake(); }
#else
    explicit Board(uint32_t divisor) : divisor(divisor) { wake(); }
#endif

    void edge() {
        top.p_clk.set<bool>(true);
        top.step();
        // All that leaves the board is in registers, so a falling edge needs to be noted only.
        top.p_clk.set<bool>(false);
        top.commit();
    }
    void wake() {
        top.p_rx.set<bool>(true);
        top.p_clk.set<bool>(false);
        top.p_rst.set<bool>(true);
        top.step();
        edge();
        edge();
        top.p_rst.set<bool>(false);
        top.step();
    }
    void line() {
        // To the board: start bit, eight bits, stop bit.
        if (!out_left && !to_board.empty()) {
            out_bits = (uint32_t)to_board.front() << 1 | 0x200;
            to_board.pop_front();
            out_left = 10;
            out_count = divisor;
        }
        top.p_rx.set<bool>(out_left ? out_bits & 1 : true);
        if (out_left && !--out_count) {
            out_bits >>= 1;
            out_count = divisor;
            out_left--;
        }
        // From the board: each bit in its middle.
        bool level = top.p_tx.get<bool>();
        if (!in_left) {
            if (!level) {
                in_left = 9;
                in_count = divisor + divisor / 2;
            }
        } else if (!--in_count) {
            in_count = divisor;
            if (--in_left) {
                in_bits = (in_bits >> 1) | (level ? 0x80 : 0);
            } else if (level) {
                from_board.push_back((uint8_t)in_bits);
            }
        }
    }
    void cycle() {
        line();
#ifdef WITH_SDRAM
        // The chip's edge lies within the cycle: what the registers show is taken, and what was read before is shown.
        chip.edge(top.p_sdram__command.get<uint32_t>(), top.p_sdram__bank.get<uint32_t>(),
                  top.p_sdram__address.get<uint32_t>(), top.p_sdram__mask.get<uint32_t>(),
                  top.p_sdram__data__out.get<uint32_t>(), top.p_sdram__drive.get<bool>());
        top.p_sdram__data__in.set<uint32_t>(chip.output());
#endif
        busy += top.p_is__busy.get<bool>();
        edge();
        cycles++;
    }
};

extern "C" {
#ifdef WITH_SDRAM
Board *bw_board_new(uint32_t divisor, const double *t, double clock_hz) {
    SdramTimes times = {t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8],
                        (uint32_t)t[9], (uint32_t)t[10], (uint32_t)t[11], (uint32_t)t[12]};
    return new Board(divisor, times, clock_hz);
}
uint64_t bw_board_faults(Board *b) { return b->chip.faults; }
void bw_board_edge(Board *b, uint32_t command, uint32_t bank, uint32_t address, uint32_t drives) {
    b->chip.edge(command, bank, address, 0, 0, drives);
}
const char *bw_board_fault(Board *b) { return b->chip.first.c_str(); }
#else
Board *bw_board_new(uint32_t divisor, const double *, double) { return new Board(divisor); }
uint64_t bw_board_faults(Board *) { return 0; }
void bw_board_edge(Board *, uint32_t, uint32_t, uint32_t, uint32_t) {}
const char *bw_board_fault(Board *) { return ""; }
#endif
void bw_board_free(Board *b) { delete b; }
uint64_t bw_board_busy(Board *b) { return b->busy; }
uint64_t bw_board_cycles(Board *b) { return b->cycles; }
void bw_board_put(Board *b, const uint8_t *data, uint32_t count) { b->to_board.insert(b->to_board.end(), data, data + count); }
// Runs so many cycles; gives how many bytes the board has sent.
uint32_t bw_board_run(Board *b, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; i++) b->cycle();
    return (uint32_t)b->from_board.size();
}
uint32_t bw_board_get(Board *b, uint8_t *into, uint32_t most) {
    uint32_t count = 0;
    while (count < most && !b->from_board.empty()) {
        into[count++] = b->from_board.front();
        b->from_board.pop_front();
    }
    return count;
}
}
