// SB_SPRAM256KA of an iCE40 UltraPlus as its data sheet (FPGA-DS-02008, FPGA-TN-02022) has it, for simulation: one port,
// 16384 words of 16 bits, nibbles written apart, the output held while it is not selected. Its modes of rest are not
// used.
module SB_SPRAM256KA (
    input [13:0] ADDRESS,
    input [15:0] DATAIN,
    input [3:0] MASKWREN,
    input WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
    output reg [15:0] DATAOUT
);
    reg [15:0] words [0:16383];
    wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
    integer bit_;
    always @(posedge CLOCK) if (CHIPSELECT) begin
        if (WREN) begin
            for (bit_ = 0; bit_ < 16; bit_ = bit_ + 1)
                if (mask[bit_]) words[ADDRESS][bit_] <= DATAIN[bit_];
        end else
            DATAOUT <= words[ADDRESS];
    end
endmodule
