    wire [31:0] araddr, awaddr;
    wire [7:0] arlen, awlen;
    wire [2:0] arsize, awsize;
    wire [1:0] arburst, awburst;
    wire arvalid, awvalid, wvalid, wlast, rready, bready;
    wire [WIDTH-1:0] wdata;
    wire [BYTES-1:0] wstrb;

    reg [7:0] s_awaddr = 0, s_araddr = 0;
    reg s_awvalid = 0, s_wvalid = 0, s_arvalid = 0;
    reg [31:0] s_wdata = 0;
    wire [31:0] s_rdata;
    wire [1:0] s_bresp, s_rresp;
    wire s_awready, s_wready, s_bvalid, s_arready, s_rvalid;

    // Bursts on their way, oldest first, in rings of 64.
    reg [31:0] r_word [0:63]; reg [8:0] r_beats [0:63]; reg [63:0] r_ready [0:63];
    reg [31:0] w_word [0:63]; reg [8:0] w_beats [0:63]; reg [63:0] b_ready [0:63];
    reg [5:0] r_head = 0, r_tail = 0, w_head = 0, w_tail = 0, b_head = 0, b_tail = 0;
    reg [63:0] now = 0;
    reg r_open = 1, b_open = 1;
    wire arready = (r_tail + 6'd1 != r_head) && !refuses(dice[7:0]);
    // Some slaves take an address only when its data is there, too.
    wire awready = (w_tail + 6'd1 != w_head) && !refuses(dice[15:8]) && (wvalid || !dice[30] || stall == 0);
    wire wready = (w_head != w_tail) && !refuses(dice[23:16]);
    wire rvalid = (r_head != r_tail) && now >= r_ready[r_head] && r_open;
    wire bvalid = (b_head != b_tail) && now >= b_ready[b_head] && b_open;
    wire [WIDTH-1:0] rdata = r_word[r_head] < WORDS ? memory[r_word[r_head]] : {WIDTH{1'b0}};
    wire rlast = r_beats[r_head] == 9'd1;

    processor dut (
        .aclk(clk), .aresetn(!rst), .interrupt(),
        .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(arsize), .m_axi_arburst(arburst), .m_axi_arcache(),
        .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rdata(rdata), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid), .m_axi_rready(rready),
        .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awsize(awsize), .m_axi_awburst(awburst), .m_axi_awcache(),
        .m_axi_awprot(), .m_axi_awvalid(awvalid), .m_axi_awready(awready),
        .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(wready),
        .m_axi_bresp(2'b00), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .s_axi_awaddr(s_awaddr), .s_axi_awprot(3'b000), .s_axi_awvalid(s_awvalid), .s_axi_awready(s_awready),
        .s_axi_wdata(s_wdata), .s_axi_wstrb(4'b1111), .s_axi_wvalid(s_wvalid), .s_axi_wready(s_wready),
        .s_axi_bresp(s_bresp), .s_axi_bvalid(s_bvalid), .s_axi_bready(1'b1),
        .s_axi_araddr(s_araddr), .s_axi_arprot(3'b000), .s_axi_arvalid(s_arvalid), .s_axi_arready(s_arready),
        .s_axi_rdata(s_rdata), .s_axi_rresp(s_rresp), .s_axi_rvalid(s_rvalid), .s_axi_rready(1'b1)
    );

    // What was offered and not taken must be offered again, unchanged.
    reg ar_kept = 0, aw_kept = 0, w_kept = 0;
    reg [44:0] ar_was, aw_was;
    reg [WIDTH+BYTES:0] w_was;
    integer lane;
    always @(posedge clk) if (!rst) begin
        now <= now + 1;
        if (ar_kept && (!arvalid || ar_was != {araddr, arlen, arsize, arburst})) fault(1);
        if (aw_kept && (!awvalid || aw_was != {awaddr, awlen, awsize, awburst})) fault(1);
        if (w_kept && (!wvalid || w_was != {wdata, wstrb, wlast})) fault(1);
        ar_kept <= arvalid && !arready; ar_was <= {araddr, arlen, arsize, arburst};
        aw_kept <= awvalid && !awready; aw_was <= {awaddr, awlen, awsize, awburst};
        w_kept <= wvalid && !wready; w_was <= {wdata, wstrb, wlast};
        if (arvalid && arready) begin
            r_word[r_tail] <= araddr >> SHIFT; r_beats[r_tail] <= {1'b0, arlen} + 9'd1; r_ready[r_tail] <= now + LATENCY;
            r_tail <= r_tail + 6'd1;
            if ((araddr >> 12) != ((araddr + (arlen << SHIFT)) >> 12)) fault(2);
            if (arsize != SHIFT || arburst != 2'b01 || (araddr & (BYTES - 1)) != 0) fault(3);
            if ((araddr >> SHIFT) + arlen >= WORDS) fault(0);
        end
        if (awvalid && awready) begin
            w_word[w_tail] <= awaddr >> SHIFT; w_beats[w_tail] <= {1'b0, awlen} + 9'd1;
            w_tail <= w_tail + 6'd1;
            if ((awaddr >> 12) != ((awaddr + (awlen << SHIFT)) >> 12)) fault(2);
            if (awsize != SHIFT || awburst != 2'b01 || (awaddr & (BYTES - 1)) != 0) fault(3);
            if ((awaddr >> SHIFT) + awlen >= WORDS) fault(0);
        end
        if (rvalid && rready) begin
            transfers = transfers + 1;
            r_word[r_head] <= r_word[r_head] + 1; r_beats[r_head] <= r_beats[r_head] - 9'd1;
            if (rlast) r_head <= r_head + 6'd1;
        end
        if (!(rvalid && !rready)) r_open <= !refuses(dice[31:24]);
        if (wvalid && wready) begin
            transfers = transfers + 1;
            for (lane = 0; lane < BYTES; lane = lane + 1)
                if (wstrb[lane] && w_word[w_head] < WORDS) memory[w_word[w_head]][8*lane +: 8] <= wdata[8*lane +: 8];
            w_word[w_head] <= w_word[w_head] + 1; w_beats[w_head] <= w_beats[w_head] - 9'd1;
            if (wlast != (w_beats[w_head] == 1)) fault(4);
            if (w_beats[w_head] == 1) begin
                w_head <= w_head + 6'd1; b_ready[b_tail] <= now + LATENCY; b_tail <= b_tail + 6'd1;
            end
        end
        if (bvalid && bready) b_head <= b_head + 6'd1;
        if (!(bvalid && !bready)) b_open <= !refuses(dice[19:12]);
    end

    task write_register(input [7:0] offset, input [31:0] data);
        begin
            s_awaddr = offset; s_wdata = data; s_awvalid = 1; s_wvalid = 1;
            @(posedge clk); while (!s_awready) @(posedge clk);
            #1 s_awvalid = 0; s_wvalid = 0;
            while (!s_bvalid) @(posedge clk);
            if (s_bresp != 0) fault(5);
            @(posedge clk); #1;
        end
    endtask

    task read_register(input [7:0] offset, output [31:0] data);
        begin
            s_araddr = offset; s_arvalid = 1;
            @(posedge clk); while (!s_arready) @(posedge clk);
            #1 s_arvalid = 0;
            while (!s_rvalid) @(posedge clk);
            if (s_rresp != 0) fault(5);
            data = s_rdata;
            @(posedge clk); #1;
        end
    endtask

