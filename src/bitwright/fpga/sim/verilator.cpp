// The processor as Verilator compiled it.
#include "Vprocessor.h"
#include "verilated.h"
#include <memory>

struct Dut {
    VerilatedContext context;
    std::unique_ptr<Vprocessor> top{new Vprocessor(&context)};

    void settle() { top->eval(); }
    void step() {
        top->clk = 1;
        top->eval();
        top->clk = 0;
        top->eval();
    }
    void reset() {
        top->clk = 0;
        top->rst = 1;
        top->start = 0;
        top->profile_address = 0;
        settle();
        step();
        step();
        top->rst = 0;
        settle();
    }
    void set_start(int on, uint32_t address) {
        top->start = on;
        top->address = address;
    }
    void set_ar_ready(bool v) { top->ar_ready = v; }
    void set_aw_ready(bool v) { top->aw_ready = v; }
    void set_w_ready(bool v) { top->w_ready = v; }
    void set_r_valid(bool v) { top->r_valid = v; }
    void set_write_answer(bool v) { top->write_answer = v; }
    void set_profile_address(uint32_t v) { top->profile_address = v; }
    void set_r_data(const uint8_t *from, uint32_t n) { std::memcpy(&top->r_data, from, n); }
    void get_w_data(uint8_t *into, uint32_t n) { std::memcpy(into, &top->w_data, n); }
    bool ar_valid() { return top->ar_valid; }
    bool aw_valid() { return top->aw_valid; }
    bool w_valid() { return top->w_valid; }
    bool r_ready() { return top->r_ready; }
    uint32_t ar_address() { return top->ar_address; }
    uint32_t ar_beats() { return top->ar_beats; }
    uint32_t aw_address() { return top->aw_address; }
    uint32_t aw_beats() { return top->aw_beats; }
    bool is_busy() { return top->busy; }
    uint64_t get_cycles() { return top->cycles; }
    uint32_t get_fingerprint() { return top->fingerprint; }
    uint32_t get_profile_data() { return top->profile_data; }
    bool load_is_busy() { return top->load_is_busy; }
    bool conv_is_busy() { return top->conv_is_busy; }
    bool vec_is_busy() { return top->vec_is_busy; }
    bool store_is_busy() { return top->store_is_busy; }
};

#include "memory.hpp"
