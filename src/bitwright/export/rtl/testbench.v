// Runs one sample through the processor as a host would, and compares what it leaves in memory.  Prints PASS or FAIL.
// Options of the simulation: +stall=N lets memory and bus refuse N percent of the time, +seed=N chooses when.
`timescale 1ns / 1ps
module testbench;
    localparam BYTES = @BYTES@, SHIFT = @SHIFT@, WORDS = @WORDS@, LATENCY = @LATENCY@, WIDTH = 8 * BYTES;
    localparam MASK = 4 * ((BYTES + 3) / 4); // whole digits
    localparam [31:0] IDENTITY = 32'h@IDENTITY@, FINGERPRINT = 32'h@FINGERPRINT@;
    localparam PATIENCE = 1000000; // cycles without a transfer after which nothing more is to be expected
    localparam SHOWN = 10;         // differences that are printed

    reg clk = 0, rst = 1;
    always #5 clk = ~clk;

    reg [WIDTH-1:0] memory [0:WORDS-1];
    // What memory must hold: the highest MASK bits say which bytes are known.
    reg [MASK+WIDTH-1:0] expected [0:WORDS-1];

    integer stall, seed, faults = 0, transfers = 0;
    initial begin
        if (!$value$plusargs("stall=%d", stall)) stall = 0;
        if (!$value$plusargs("seed=%d", seed)) seed = 1;
    end
    reg [31:0] dice = 0;
    function refuses(input [7:0] bits);
        refuses = (bits * 100) < (stall * 256);
    endfunction
    task fault(input integer number);
        begin
            faults = faults + 1;
            if (faults <= SHOWN) case (number)
@FAULTS@
                default: $display("bus: address outside of the network's memory");
            endcase
        end
    endtask

@BUS@
    always @(posedge clk) begin
        dice <= $random(seed);
    end

    reg [31:0] value, seen;
    task run(input [31:0] address);
        integer moved;
        begin
            write_register(@PROGRAM@, address);
            write_register(@CONTROL@, 1 << @START@);
            seen = 0;
            moved = transfers;
            value = 1 << @RUNNING@;
            while (value[@RUNNING@]) begin
                read_register(@STATUS@, value);
                seen = seen + 8;
                if (transfers != moved) begin
                    moved = transfers;
                    seen = 0;
                end
                if (seen > PATIENCE) begin
                    $display("FAIL: the program at %08x stands still", address);
                    $finish;
                    value = 0;
                end
            end
            if (value[@FAULT@]) begin
                $display("the processor saw a fault on its bus");
                faults = faults + 1;
            end
            read_register(@CYCLES@, value);
            $display("program at %08x: %0d cycles", address, value);
        end
    endtask

    // Which tensor an address belongs to.
    task name_of(input [31:0] address);
        begin
@NAMES@
        end
    endtask

    integer i, b, wrong = 0, compared = 0;
    task forget;
        for (i = 0; i < WORDS; i = i + 1) expected[i] = 0;
    endtask
    task compare;
        for (i = 0; i < WORDS; i = i + 1)
            if (expected[i][WIDTH +: BYTES] != 0)
                for (b = 0; b < BYTES; b = b + 1)
                    if (expected[i][WIDTH + b]) begin
                        compared = compared + 1;
                        if (memory[i][8*b +: 8] !== expected[i][8*b +: 8]) begin
                            wrong = wrong + 1;
                            if (wrong <= SHOWN) begin
                                $display("byte %08x is %02x, expected %02x", i * BYTES + b,
                                         memory[i][8*b +: 8], expected[i][8*b +: 8]);
                                name_of(i * BYTES + b);
                            end
                        end
                    end
    endtask

    initial begin
        $readmemh("image.hex", memory);
        $readmemh("input.hex", memory);
        repeat (4) @(posedge clk);
        #1 rst = 0;
        repeat (2) @(posedge clk);
        #1 read_register(@IDENTITY_AT@, value);
        if (value != IDENTITY) begin
            $display("FAIL: identity %08x, expected %08x", value, IDENTITY);
            $finish;
        end
        read_register(@FINGERPRINT_AT@, value);
        if (value != FINGERPRINT) begin
            $display("FAIL: the processor is %08x, the program is for %08x", value, FINGERPRINT);
            $finish;
        end
@STEPS@
        if (wrong == 0 && faults == 0 && compared > 0)
            $display("PASS: %0d bytes compared, 0 differ", compared);
        else
            $display("FAIL: %0d of %0d bytes differ, %0d faults on the bus", wrong, compared, faults);
        $finish;
    end
endmodule
