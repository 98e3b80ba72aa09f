// For simulation only: what the processor uses of the multiplier block of Lattice's iCE40 UltraPlus, two signed products of
// 8 x 8 bits with registers before and after, and a register behind their sums with C and D.  Synthesis takes the device's own.
module SB_MAC16 (
    input CLK, CE,
    input [15:0] C, A, B, D,
    input AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT, OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT,
    input OHOLDTOP, OHOLDBOT, CI, ACCUMCI, SIGNEXTIN,
    output [31:0] O, output CO, ACCUMCO, SIGNEXTOUT
);
    parameter [0:0] NEG_TRIGGER = 0, C_REG = 0, A_REG = 0, B_REG = 0, D_REG = 0;
    parameter [0:0] TOP_8x8_MULT_REG = 0, BOT_8x8_MULT_REG = 0, PIPELINE_16x16_MULT_REG1 = 0, PIPELINE_16x16_MULT_REG2 = 0;
    parameter [1:0] TOPOUTPUT_SELECT = 0, TOPADDSUB_LOWERINPUT = 0, TOPADDSUB_CARRYSELECT = 0;
    parameter [0:0] TOPADDSUB_UPPERINPUT = 0, BOTADDSUB_UPPERINPUT = 0, MODE_8x8 = 0, A_SIGNED = 0, B_SIGNED = 0;
    parameter [1:0] BOTOUTPUT_SELECT = 0, BOTADDSUB_LOWERINPUT = 0, BOTADDSUB_CARRYSELECT = 0;

    localparam ADDS = TOPOUTPUT_SELECT == 2'd1;
    initial begin
        if ({A_REG, B_REG, TOP_8x8_MULT_REG, BOT_8x8_MULT_REG, MODE_8x8, A_SIGNED, B_SIGNED} != 7'h7f
            || TOPOUTPUT_SELECT != BOTOUTPUT_SELECT || (TOPOUTPUT_SELECT != 2'd1 && TOPOUTPUT_SELECT != 2'd2))
            $display("FAIL: this model of SB_MAC16 has no such mode");
        if (ADDS && {C_REG, D_REG, TOPADDSUB_LOWERINPUT, BOTADDSUB_LOWERINPUT, TOPADDSUB_UPPERINPUT, BOTADDSUB_UPPERINPUT,
                     TOPADDSUB_CARRYSELECT, BOTADDSUB_CARRYSELECT} != 12'b00_01_01_1_1_00_00)
            $display("FAIL: this model of SB_MAC16 has no such sum");
    end

    reg signed [7:0] a_top, a_low, b_top, b_low;
    reg signed [15:0] top, low;
    reg [15:0] top_sum, low_sum;
    always @(posedge CLK) if (CE) begin
        {a_top, a_low, b_top, b_low} <= {A, B};
        top <= a_top * b_top;
        low <= a_low * b_low;
        top_sum <= top + C;
        low_sum <= low + D;
    end
    assign O = ADDS ? {top_sum, low_sum} : {top, low};
    assign {CO, ACCUMCO, SIGNEXTOUT} = 3'b000;
endmodule
