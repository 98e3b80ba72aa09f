// The exported Verilog, compiled to C++, beside a memory: what the C driver is connected to when an export is verified.
// Who compiles this defines BUS_AXI4 or BUS_WISHBONE, and CXXRTL or VERILATOR.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#if defined(CXXRTL)
#include "processor.cc"
// Underscores are doubled in the names of ports.
#define PORT(a, b, c) top.p_##a##__##b##__##c
#define GET(a, b, c) (PORT(a, b, c).get<uint32_t>())
#define SET(a, b, c, v) PORT(a, b, c).set<uint32_t>((uint32_t)(v))
#define SET1(a, v) top.p_##a.set<uint32_t>((uint32_t)(v))
#define SET2(a, b, v) top.p_##a##__##b.set<uint32_t>((uint32_t)(v))
#define BYTES(a, b, c) ((uint8_t *)PORT(a, b, c).data)
#define TOP cxxrtl_design::p_processor top;
#define SETTLE top.step()
#else
#include "Vprocessor.h"
#include "verilated.h"
#include <memory>
#define GET(a, b, c) ((uint32_t)top->a##_##b##_##c)
#define SET(a, b, c, v) top->a##_##b##_##c = (v)
#define SET1(a, v) top->a = (v)
#define SET2(a, b, v) top->a##_##b = (v)
#define BYTES(a, b, c) ((uint8_t *)&top->a##_##b##_##c)
#define TOP                   \
    VerilatedContext context; \
    std::unique_ptr<Vprocessor> top{new Vprocessor(&context)};
#define SETTLE top->eval()
#endif

static const int PATIENCE = 1000; // cycles that an access to a register may take

struct Burst {
    uint64_t address;
    uint32_t beats;
    uint64_t ready_at;
};

// An access to a register: what is offered, and what came back.
struct Access {
    bool write = false, offered = false, taken = false, answered = false, refused = false;
    uint32_t offset = 0, data = 0;
};

struct Machine {
    TOP
    std::vector<uint8_t> memory;
    uint64_t now = 0, random = 1, base = 0, faults = 0;
    uint32_t beat_bytes = 1, latency = 1, stall_percent = 0;
    Access access;

    bool refuses() {
        if (!stall_percent) return false;
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        return (random >> 33) % 100 < stall_percent;
    }

    uint8_t *at(uint64_t address) {
        static uint8_t nowhere[256];
        if (address < base || address - base + beat_bytes > memory.size()) {
            faults++;
            return nowhere;
        }
        return &memory[address - base];
    }

#if defined(BUS_AXI4)
    std::deque<Burst> reads, writes;
    std::deque<uint64_t> answers;
    bool r_open = true, b_open = true;

    void set_clock(int level) { SET1(aclk, level); }
    void set_reset(bool on) { SET1(aresetn, !on); }

    void cycle() {
        bool ar = reads.size() < 32 && !refuses(), aw = writes.size() < 32 && !refuses();
        bool w = !writes.empty() && !refuses();
        bool r = !reads.empty() && now >= reads.front().ready_at && r_open;
        bool b = !answers.empty() && now >= answers.front() && b_open;
        SET(m, axi, arready, ar);
        SET(m, axi, awready, aw);
        SET(m, axi, wready, w);
        SET(m, axi, rvalid, r);
        SET(m, axi, rlast, r && reads.front().beats == 1);
        SET(m, axi, bvalid, b);
        if (r) std::memcpy(BYTES(m, axi, rdata), at(reads.front().address), beat_bytes);
        SET(s, axi, awvalid, access.offered && access.write);
        SET(s, axi, wvalid, access.offered && access.write);
        SET(s, axi, awaddr, access.offset);
        SET(s, axi, wdata, access.data);
        SET(s, axi, wstrb, 15);
        SET(s, axi, bready, 1);
        SET(s, axi, arvalid, access.offered && !access.write);
        SET(s, axi, araddr, access.offset);
        SET(s, axi, rready, 1);
        SETTLE;
        if (r && GET(m, axi, rready)) {
            reads.front().address += beat_bytes;
            if (--reads.front().beats == 0) reads.pop_front();
            r = false;
        }
        if (!r) r_open = !refuses();
        if (w && GET(m, axi, wvalid)) {
            Burst &burst = writes.front();
            std::memcpy(at(burst.address), BYTES(m, axi, wdata), beat_bytes);
            burst.address += beat_bytes;
            if (GET(m, axi, wlast) != (burst.beats == 1)) faults++;
            if (--burst.beats == 0) {
                writes.pop_front();
                answers.push_back(now + latency);
            }
        }
        if (b && GET(m, axi, bready)) {
            answers.pop_front();
            b = false;
        }
        if (!b) b_open = !refuses();
        if (ar && GET(m, axi, arvalid)) reads.push_back({GET(m, axi, araddr), GET(m, axi, arlen) + 1, now + latency});
        if (aw && GET(m, axi, awvalid)) writes.push_back({GET(m, axi, awaddr), GET(m, axi, awlen) + 1, 0});
        if (access.offered && (access.write ? GET(s, axi, awready) : GET(s, axi, arready))) access.taken = true;
        if (access.write ? GET(s, axi, bvalid) : GET(s, axi, rvalid)) {
            access.answered = true;
            access.refused = access.write ? GET(s, axi, bresp) != 0 : GET(s, axi, rresp) != 0;
            if (!access.write) access.data = GET(s, axi, rdata);
        }
        edge();
    }
#else
    struct Answer {
        uint64_t ready_at;
        std::vector<uint8_t> data;
    };
    std::deque<Answer> answers;

    void set_clock(int level) { SET2(clk, i, level); }
    void set_reset(bool on) { SET2(rst, i, on); }

    void cycle() {
        bool stalled = answers.size() >= 128 || refuses();
        bool ack = !answers.empty() && now >= answers.front().ready_at && !refuses();
        SET(wbm, stall, i, stalled);
        SET(wbm, ack, i, ack);
        SET(wbm, err, i, 0);
        if (ack) std::memcpy(BYTES(wbm, dat, i), answers.front().data.data(), beat_bytes);
        SET(wbs, cyc, i, access.offered || (access.taken && !access.answered));
        SET(wbs, stb, i, access.offered);
        SET(wbs, we, i, access.write);
        SET(wbs, adr, i, access.offset);
        SET(wbs, dat, i, access.data);
        SET(wbs, sel, i, 15);
        SETTLE;
        if (ack) answers.pop_front();
        if (GET(wbm, stb, o) && !GET(wbm, cyc, o)) faults++;
        if (GET(wbm, stb, o) && !stalled) {
            uint8_t *where = at(GET(wbm, adr, o));
            if (GET(wbm, we, o)) std::memcpy(where, BYTES(wbm, dat, o), beat_bytes);
            answers.push_back({now + latency, std::vector<uint8_t>(where, where + beat_bytes)});
        }
        if (access.taken && (GET(wbs, ack, o) || GET(wbs, err, o))) {
            access.answered = true;
            access.refused = GET(wbs, err, o);
            if (!access.write) access.data = GET(wbs, dat, o);
        }
        if (access.offered && !GET(wbs, stall, o)) access.taken = true;
        edge();
    }
#endif

    void edge() {
        if (access.taken) access.offered = false;
        set_clock(1);
        SETTLE;
        set_clock(0);
        SETTLE;
        now++;
    }

    void reset() {
        set_clock(0);
        set_reset(true);
        SETTLE;
        for (int i = 0; i < 4; i++) edge();
        set_reset(false);
        SETTLE;
    }

    int run_access(bool write, uint32_t offset, uint32_t &data) {
        access = Access();
        access.write = write;
        access.offered = true;
        access.offset = offset;
        access.data = data;
        for (int i = 0; i < PATIENCE && !access.answered; i++) cycle();
        data = access.data;
        return !access.answered || access.refused;
    }
};

extern "C" {
Machine *bws_new(uint64_t bytes, uint64_t base, uint32_t beat_bytes, uint32_t latency) {
    Machine *m = new Machine;
    m->memory.resize(bytes);
    m->base = base;
    m->beat_bytes = beat_bytes;
    m->latency = latency;
    m->reset();
    return m;
}
void bws_free(Machine *m) { delete m; }
void bws_stall(Machine *m, uint32_t percent, uint64_t seed) {
    m->stall_percent = percent;
    m->random = seed * 2 + 1;
}
uint64_t bws_faults(Machine *m) { return m->faults; }
uint64_t bws_now(Machine *m) { return m->now; }
// What the C driver calls; its memory has no base.
int bws_write_memory(void *user, uint32_t address, const void *data, size_t bytes) {
    Machine *m = (Machine *)user;
    if (address + bytes > m->memory.size()) return 1;
    std::memcpy(&m->memory[address], data, bytes);
    return 0;
}
int bws_read_memory(void *user, uint32_t address, void *data, size_t bytes) {
    Machine *m = (Machine *)user;
    if (address + bytes > m->memory.size()) return 1;
    std::memcpy(data, &m->memory[address], bytes);
    return 0;
}
int bws_write_register(void *user, uint32_t offset, uint32_t value) {
    return ((Machine *)user)->run_access(true, offset, value);
}
int bws_read_register(void *user, uint32_t offset, uint32_t *value) {
    return ((Machine *)user)->run_access(false, offset, *value);
}
int bws_wait(void *user) {
    for (int i = 0; i < 100; i++) ((Machine *)user)->cycle();
    return 0;
}
}
