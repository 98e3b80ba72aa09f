    wire [31:0] adr;
    wire [WIDTH-1:0] wdata;
    wire [BYTES-1:0] sel;
    wire we, cyc, stb;

    reg [7:0] s_adr = 0;
    reg [31:0] s_data = 0;
    reg s_we = 0, s_cyc = 0, s_stb = 0;
    wire [31:0] s_found;
    wire s_stall, s_ack, s_err;

    // Beats on their way, oldest first, in a ring of 256.
    reg [WIDTH-1:0] a_data [0:255]; reg [63:0] a_ready [0:255];
    reg [7:0] a_head = 0, a_tail = 0;
    reg [63:0] now = 0;
    reg open = 1;
    wire stalls = (a_tail + 8'd1 == a_head) || refuses(dice[7:0]);
    wire ack = (a_head != a_tail) && now >= a_ready[a_head] && open;

    processor dut (
        .clk_i(clk), .rst_i(rst), .interrupt(),
        .wbm_adr_o(adr), .wbm_dat_o(wdata), .wbm_dat_i(ack ? a_data[a_head] : {WIDTH{1'b0}}), .wbm_sel_o(sel),
        .wbm_we_o(we), .wbm_cyc_o(cyc), .wbm_stb_o(stb), .wbm_stall_i(stalls), .wbm_ack_i(ack), .wbm_err_i(1'b0),
        .wbs_adr_i(s_adr), .wbs_dat_i(s_data), .wbs_dat_o(s_found), .wbs_sel_i(4'b1111), .wbs_we_i(s_we),
        .wbs_cyc_i(s_cyc), .wbs_stb_i(s_stb), .wbs_stall_o(s_stall), .wbs_ack_o(s_ack), .wbs_err_o(s_err)
    );

    // What was asked for and not taken must be asked for again, unchanged; no request and no answer outside of a cycle.
    reg kept = 0;
    reg [32+WIDTH+BYTES:0] was;
    integer lane;
    always @(posedge clk) if (!rst) begin
        now <= now + 1;
        if (kept && (!stb || was != {adr, we ? wdata : {WIDTH{1'b0}}, sel, we})) fault(1);
        kept <= stb && stalls; was <= {adr, we ? wdata : {WIDTH{1'b0}}, sel, we};
        if (stb && !cyc) fault(2);
        if (ack && !cyc) fault(2);
        if (cyc && stb && !stalls) begin
            transfers = transfers + 1;
            if ((adr >> SHIFT) >= WORDS) fault(0);
            if ((adr & (BYTES - 1)) != 0) fault(3);
            if (we) begin
                for (lane = 0; lane < BYTES; lane = lane + 1)
                    if (sel[lane] && (adr >> SHIFT) < WORDS) memory[adr >> SHIFT][8*lane +: 8] <= wdata[8*lane +: 8];
            end
            a_data[a_tail] <= (adr >> SHIFT) < WORDS ? memory[adr >> SHIFT] : {WIDTH{1'b0}};
            a_ready[a_tail] <= now + LATENCY; a_tail <= a_tail + 8'd1;
        end
        if (ack) a_head <= a_head + 8'd1;
        open <= !refuses(dice[15:8]);
    end

    task write_register(input [7:0] offset, input [31:0] data);
        begin
            s_adr = offset; s_data = data; s_we = 1; s_cyc = 1; s_stb = 1;
            @(posedge clk); while (s_stall) @(posedge clk);
            #1 s_stb = 0; s_we = 0;
            while (!s_ack && !s_err) @(posedge clk);
            if (s_err) fault(5);
            @(posedge clk); #1 s_cyc = 0;
        end
    endtask

    task read_register(input [7:0] offset, output [31:0] data);
        begin
            s_adr = offset; s_we = 0; s_cyc = 1; s_stb = 1;
            @(posedge clk); while (s_stall) @(posedge clk);
            #1 s_stb = 0;
            while (!s_ack && !s_err) @(posedge clk);
            if (s_err) fault(5);
            data = s_found;
            @(posedge clk); #1 s_cyc = 0;
        end
    endtask

