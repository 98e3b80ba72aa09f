// External memory beside the simulated processor, and the functions that Python calls.
// The including file defines `Dut`: the signals as members and step(), which is one rising clock edge.
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

struct Burst {
    uint64_t address;
    uint32_t beats;
    uint64_t ready_at;
};

struct Machine {
    Dut dut;
    std::vector<uint8_t> memory;
    std::deque<Burst> reads, writes;
    std::deque<uint64_t> answers;
    uint64_t now = 0, random = 1;
    uint32_t bus_bytes, latency, outstanding, stall_percent = 0;
    uint64_t busy[4] = {0, 0, 0, 0};
    uint64_t read_beats = 0, write_beats = 0, faults = 0;

    bool stalls() {
        if (!stall_percent) return false;
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        return (random >> 33) % 100 < stall_percent;
    }

    uint8_t *at(uint64_t address) {
        static uint8_t nowhere[64];
        if (address + bus_bytes > memory.size()) {
            faults++;
            return nowhere;
        }
        return &memory[address];
    }

    void cycle() {
        bool may_ask = reads.size() < outstanding && !stalls();
        bool has_read = !reads.empty() && now >= reads.front().ready_at && !stalls();
        bool may_write = !stalls();
        bool answer = !answers.empty() && now >= answers.front();
        dut.set_ar_ready(may_ask);
        dut.set_aw_ready(may_write);
        // Data is taken only for a burst that was asked for.
        bool takes = !writes.empty() && !stalls();
        dut.set_w_ready(takes);
        dut.set_r_valid(has_read);
        if (has_read) dut.set_r_data(at(reads.front().address), bus_bytes);
        dut.set_write_answer(answer);
        dut.settle();
        bool asked = may_ask && dut.ar_valid();
        bool read = has_read && dut.r_ready();
        bool told = may_write && dut.aw_valid();
        bool wrote = takes && dut.w_valid();
        if (wrote) {
            Burst &burst = writes.front();
            dut.get_w_data(at(burst.address), bus_bytes);
            burst.address += bus_bytes;
            write_beats++;
            if (--burst.beats == 0) {
                writes.pop_front();
                answers.push_back(now + latency);
            }
        }
        if (read) {
            Burst &burst = reads.front();
            burst.address += bus_bytes;
            read_beats++;
            if (--burst.beats == 0) reads.pop_front();
        }
        if (answer) answers.pop_front();
        if (asked) reads.push_back({dut.ar_address(), dut.ar_beats(), now + latency});
        if (told) writes.push_back({dut.aw_address(), dut.aw_beats(), 0});
        busy[0] += dut.load_is_busy();
        busy[1] += dut.conv_is_busy();
        busy[2] += dut.vec_is_busy();
        busy[3] += dut.store_is_busy();
        dut.step();
        now++;
    }
};

extern "C" {
Machine *bw_new(uint64_t bytes, uint32_t bus_bytes, uint32_t latency, uint32_t outstanding) {
    Machine *m = new Machine;
    m->memory.resize(bytes);
    m->bus_bytes = bus_bytes;
    m->latency = latency;
    m->outstanding = outstanding;
    m->dut.reset();
    return m;
}
void bw_free(Machine *m) { delete m; }
uint8_t *bw_memory(Machine *m) { return m->memory.data(); }
void bw_stall(Machine *m, uint32_t percent, uint64_t seed) {
    m->stall_percent = percent;
    m->random = seed * 2 + 1;
}
uint32_t bw_fingerprint(Machine *m) { return m->dut.get_fingerprint(); }
// Runs a program; gives the cycles it took, or -1 if it did not end in `limit` cycles (call again with 1 as `resume`).
int64_t bw_run(Machine *m, uint32_t address, uint64_t limit, int resume) {
    if (!resume) {
        m->dut.set_start(1, address);
        m->cycle();
        m->dut.set_start(0, address);
    }
    for (uint64_t i = 0; i < limit; i++) {
        m->cycle();
        if (!m->dut.is_busy()) return (int64_t)m->dut.get_cycles();
    }
    return -1;
}
uint32_t bw_profile(Machine *m, uint32_t stamp) {
    m->dut.set_profile_address(stamp);
    m->cycle();
    m->cycle();
    return m->dut.get_profile_data();
}
void bw_counters(Machine *m, uint64_t *into) {
    for (int i = 0; i < 4; i++) into[i] = m->busy[i];
    into[4] = m->read_beats;
    into[5] = m->write_beats;
    into[6] = m->faults;
}
}
