// The processor as CXXRTL wrote it.
#include "processor.cc"
#include <cstring>

struct Dut {
    cxxrtl_design::p_processor top;

    void settle() { top.step(); }
    void step() {
        top.p_clk.set<bool>(true);
        top.step();
        top.p_clk.set<bool>(false);
        top.step();
    }
    void reset() {
        top.p_clk.set<bool>(false);
        top.p_rst.set<bool>(true);
        settle();
        step();
        step();
        top.p_rst.set<bool>(false);
        settle();
    }
    void set_start(int on, uint32_t address) {
        top.p_start.set<bool>(on);
        top.p_address.set<uint32_t>(address);
    }
    void set_ar_ready(bool v) { top.p_ar__ready.set<bool>(v); }
    void set_aw_ready(bool v) { top.p_aw__ready.set<bool>(v); }
    void set_w_ready(bool v) { top.p_w__ready.set<bool>(v); }
    void set_r_valid(bool v) { top.p_r__valid.set<bool>(v); }
    void set_write_answer(bool v) { top.p_write__answer.set<bool>(v); }
    void set_profile_address(uint32_t v) { top.p_profile__address.set<uint8_t>(v); }
    void set_r_data(const uint8_t *from, uint32_t n) { std::memcpy(top.p_r__data.data, from, n); }
    void get_w_data(uint8_t *into, uint32_t n) { std::memcpy(into, top.p_w__data.data, n); }
    bool ar_valid() { return top.p_ar__valid.get<bool>(); }
    bool aw_valid() { return top.p_aw__valid.get<bool>(); }
    bool w_valid() { return top.p_w__valid.get<bool>(); }
    bool r_ready() { return top.p_r__ready.get<bool>(); }
    uint32_t ar_address() { return top.p_ar__address.get<uint32_t>(); }
    uint32_t ar_beats() { return top.p_ar__beats.get<uint32_t>(); }
    uint32_t aw_address() { return top.p_aw__address.get<uint32_t>(); }
    uint32_t aw_beats() { return top.p_aw__beats.get<uint32_t>(); }
    bool is_busy() { return top.p_busy.get<bool>(); }
    uint64_t get_cycles() { return top.p_cycles.get<uint64_t>(); }
    uint32_t get_fingerprint() { return top.p_fingerprint.get<uint32_t>(); }
    uint32_t get_profile_data() { return top.p_profile__data.get<uint32_t>(); }
    bool load_is_busy() { return top.p_load__is__busy.get<bool>(); }
    bool conv_is_busy() { return top.p_conv__is__busy.get<bool>(); }
    bool vec_is_busy() { return top.p_vec__is__busy.get<bool>(); }
    bool store_is_busy() { return top.p_store__is__busy.get<bool>(); }
};

#include "memory.hpp"
