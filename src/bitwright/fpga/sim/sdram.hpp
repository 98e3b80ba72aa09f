// An SDRAM chip of 256 Mbit with 16 bits that checks what is done to it: times, order, refreshes, who drives the wires.
// The figures come from bitwright.fpga.sdram, in nanoseconds.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

struct SdramTimes {
    double start, to_column, precharge, to_precharge, active_to_active, refresh, other_bank, write, refresh_all;
    uint32_t cas_latency, mode_cycles, wake_refreshes, refreshes;
};

struct Sdram {
    enum Command { MODE = 0, REFRESH = 1, PRECHARGE = 2, ACTIVATE = 3, WRITE = 4, READ = 5, STOP = 6, NOTHING = 7 };
    static const uint32_t BANKS = 4, ROWS = 8192, COLUMNS = 512;
    SdramTimes times;
    double period;
    std::vector<uint16_t> cells;
    uint64_t faults = 0, refreshed = 0;
    std::string first;
    int64_t now = 0, started = -1;
    bool open[BANKS] = {}, awake = false;
    uint32_t row[BANKS] = {};
    // Times of the last command of each kind; long ago at first.
    int64_t activated[BANKS], closed[BANKS], wrote[BANKS], last_activate = -1000000, last_refresh = -1000000,
                                                         last_mode = -1000000;
    struct Word {
        int64_t at;
        uint16_t value;
    };
    std::vector<Word> coming;
    uint32_t wake_refreshes = 0;
    bool woke_closed = false;

    Sdram(const SdramTimes &t, double clock_hz) : times(t), period(1e9 / clock_hz), cells(BANKS * ROWS * COLUMNS) {
        for (uint32_t b = 0; b < BANKS; b++) activated[b] = closed[b] = wrote[b] = -1000000;
        // What a chip holds when it wakes is anything.
        uint32_t noise = 12345;
        for (auto &cell : cells) cell = (uint16_t)((noise = noise * 1664525u + 1013904223u) >> 16);
    }

    void fault(const char *what) {
        if (!faults++) first = what;
    }
    bool soon(int64_t then, double ns) { return (now - then) * period < ns - 1e-6; }

    // One rising edge of the chip's clock, with what is at its pins; `driven` tells whether the controller drives data.
    void edge(uint32_t command, uint32_t bank, uint32_t address, uint32_t mask, uint16_t data, bool driven) {
        if (command != NOTHING && now * period < times.start) fault("a command before the chip has started");
        if (command != NOTHING && soon(last_refresh, times.refresh)) fault("a command too soon after a refresh");
        if (command != NOTHING && now - last_mode < (int64_t)times.mode_cycles) fault("a command too soon after the mode");
        if (command != NOTHING && command != PRECHARGE && command != REFRESH && command != MODE && !awake)
            fault("the chip is used before it has its mode");
        if (driven && command != WRITE) fault("the controller drives data that nobody takes");
        bool any = open[0] || open[1] || open[2] || open[3];
        switch (command) {
        case ACTIVATE:
            if (open[bank]) fault("a row is opened in a bank that has one open");
            if (soon(closed[bank], times.precharge)) fault("a row is opened too soon after a precharge (tRP)");
            if (soon(activated[bank], times.active_to_active)) fault("rows of a bank are opened too soon (tRC)");
            if (soon(last_activate, times.other_bank)) fault("rows of two banks are opened too soon (tRRD)");
            open[bank] = true;
            row[bank] = address % ROWS;
            activated[bank] = last_activate = now;
            break;
        case READ:
        case WRITE: {
            if (address & 1024) fault("a row is to be closed by itself");
            if (!open[bank]) fault("a column of a bank without an open row");
            if (soon(activated[bank], times.to_column)) fault("a column too soon after its row (tRCD)");
            uint16_t &cell = cells[(bank * ROWS + row[bank]) * COLUMNS + address % COLUMNS];
            if (command == READ) {
                if (mask) fault("a read is masked");
                coming.push_back({now + times.cas_latency, cell});
            } else {
                if (!driven) fault("a write without data");
                // A word that was read is at the pins until a cycle after it was there.
                for (auto &word : coming)
                    if (word.at >= now - 1) fault("both drive data");
                uint16_t keep = (mask & 1 ? 0x00ff : 0) | (mask & 2 ? 0xff00 : 0);
                cell = (cell & keep) | (data & ~keep);
                wrote[bank] = now;
            }
            break;
        }
        case PRECHARGE:
            for (uint32_t b = 0; b < BANKS; b++) {
                if (!(address & 1024) && b != bank) continue;
                if (open[b] && soon(activated[b], times.to_precharge)) fault("a row is closed too soon (tRAS)");
                if (open[b] && soon(wrote[b], times.write)) fault("a row is closed too soon after a write (tWR)");
                if (open[b] || !awake) closed[b] = now;
                open[b] = false;
            }
            if (address & 1024) woke_closed = true;
            break;
        case REFRESH:
            if (any) fault("a refresh with open rows");
            for (uint32_t b = 0; b < BANKS; b++)
                if (soon(closed[b], times.precharge)) fault("a refresh too soon after a precharge (tRP)");
            last_refresh = now;
            if (!awake) wake_refreshes++;
            refreshed++;
            break;
        case MODE:
            if (any || !woke_closed || wake_refreshes < times.wake_refreshes) fault("the mode comes out of order");
            if (bank || address != times.cas_latency << 4) fault("another mode than the controller's");
            awake = true;
            started = now;
            refreshed = 0;
            last_mode = now;
            break;
        case STOP: fault("a burst is stopped that is none"); break;
        }
        if (awake) {
            // Each row within its time, and never more than eight refreshes behind.
            double interval = times.refresh_all / times.refreshes;
            if ((now - started) * period / interval > refreshed + 8) fault("the chip is not refreshed in time (tREF)");
        }
        while (!coming.empty() && coming.front().at < now - 1) coming.erase(coming.begin());
        now++;
    }

    // The word at the pins at the end of the cycle of the last edge; anything when the chip does not drive.
    uint16_t output() const {
        for (auto &word : coming)
            if (word.at == now - 1) return word.value;
        return 0xdead;
    }
};
