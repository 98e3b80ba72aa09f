"""The processor's clockwork without its arithmetic: the same registers and handshakes as ``rtl/``, cycle after cycle.

Stretches in which nothing but counters moves are skipped.  The RTL and this agree in every cycle, which is tested.

Importing this module loads numba, so import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bitwright.fpga.isa import TOKENS

# Columns of the table of instructions that the loop reads.
(
    UNIT, WAIT, POST, LAST, STAMP, STEPS, ADDRESS, ROW_STRIDE, ROWS, RUNS, RUN_STRIDE, BEATS, ABOVE, BELOW, LEFT, WIDTH,
    WORDS, PIXELS, FENCE, COLUMNS,
) = range(20)  # fmt: skip

FETCH_AHEAD = 4
LOAD_AHEAD = 4
WAITING_WORDS = 8
STAMPS = 2048


@njit(cache=True)
def _burst(at: int, left: int, most: int) -> int:  # pragma: no cover  (compiled)
    room = most - at % most
    return min(left, room)


@njit(cache=True)
def run(
    table: NDArray[np.int64], latency: int, outstanding: int, most: int, per_word: int, per_instruction: int, per_copy: int,
    queue: int, small: bool, conv_leaves: int, vec_leaves: int, ends: NDArray[np.int64], busy: NDArray[np.int64],
    limit: int,
) -> int:  # pragma: no cover  (compiled)  # fmt: skip
    """Cycles of one segment, or -1 if it does not end in ``limit`` cycles.

    Args:
        table: Instructions, one row each.
        latency: Of external memory.
        outstanding: Reads that may be on their way.
        most: Beats of the longest burst.
        per_word: Beats of a word.
        per_instruction: Beats of an instruction.
        per_copy: Cycles in which small control copies one.
        queue: Depth of the queues, or of the window that all share.
        small: Instructions are in one window, and units hold one each.
        conv_leaves: Cycles from the last step of CONV to its end.
        vec_leaves: Of VEC.
        ends: By stamp, cycle of the last STORE's end; written.
        busy: By unit, cycles in which it works; written.
        limit: Cycles.
    """
    count = len(table)
    tokens = np.zeros(TOKENS, np.int64)
    # Who of each queue is where: instructions in order of their unit, and how many were handed over and started.
    order = np.zeros((4, count), np.int64)
    size = np.zeros(4, np.int64)
    for k in range(count):
        u = table[k, UNIT]
        order[u, size[u]] = k
        size[u] += 1
    inner, ready, started = np.zeros(4, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    # FETCH
    active, ended, reserved, asked_for, got, full, hand = 1, 0, 0, 0, 0, 0, 0
    fetch_depth = FETCH_AHEAD * per_instruction
    # The window of small control: instructions asked for, arrived and let go, and how far each unit is.
    w_asked, w_arrived, w_freed, w_got = 0, 0, 0, 0
    w_at, w_want = np.zeros(4, np.int64), np.zeros(4, np.int64)
    w_copying, w_who, w_index, w_there, w_beat = 0, 0, 0, 0, 0
    s_there = 0
    fetch_inner, fetch_ready = 0, 0
    # Reads on their way: a ring of (beats, time, for FETCH).
    ring = outstanding + 2
    read_beats, read_time, read_own = np.zeros(ring, np.int64), np.zeros(ring, np.int64), np.zeros(ring, np.int64)
    read_first, reads = 0, 0
    owner_depth = max(outstanding, 3)
    owner_inner, owner_ready = 0, 0
    # LOAD: bursts, then words.
    b_active, b_at, b_left, b_run, b_row, b_runs, b_rows, b_k = 0, 0, 0, 0, 0, 0, 0, 0
    ahead_inner, ahead_ready, ahead_first = 0, 0, 0
    l_active, l_null, l_k, l_row, l_column, l_word, l_run, l_done, l_beat, l_post = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    # CONV and VEC
    conv_leave, vec_leave, conv_k, vec_k = -1, -1, 0, 0
    # STORE
    s_active, s_at, s_left, s_run, s_row, s_runs, s_rows = 0, 0, 0, 0, 0, 0, 0
    s_reading, s_ending, s_k, s_words, s_beat, s_out = 0, 0, 0, 0, 0, 0
    wait_inner, wait_ready, arrived, word_valid = 0, 0, 0, 0
    wring = 1 << 12
    w_beats, w_first, writes = np.zeros(wring, np.int64), 0, 0
    a_time, a_first, answers = np.zeros(wring, np.int64), 0, 0
    done = 0
    start = np.zeros(4, np.int64)
    now = 1
    while now < limit:
        # What the memory offers in this cycle.
        may_ask = reads < outstanding
        has_read = reads > 0 and now >= read_time[read_first]
        takes = writes > 0
        answer = answers > 0 and now >= a_time[a_first]
        # Starts, in the order of queues.
        can = (
            b_active == 0 and (l_active == 0 if small else ahead_inner != LOAD_AHEAD - 1),
            conv_leave < 0,
            vec_leave < 0,
            s_reading == 0 and s_ending == 0,
        )
        any_start = False
        for u in range(4):
            start[u] = 0
            if ready[u] and can[u]:
                mask = table[order[u, started[u]], WAIT]
                good = True
                for t in range(TOKENS):
                    if mask >> t & 1 and tokens[t] <= 0:
                        good = False
                if good:
                    # Taken at once, so that the next queue sees what is left; given ones come after.
                    for t in range(TOKENS):
                        if mask >> t & 1:
                            tokens[t] -= 1
                    start[u] = 1
                    any_start = True
        quiet = s_active == 0 and s_out == 0 and wait_inner + wait_ready == 0 and arrived == 0 and word_valid == 0
        finish = s_ending and s_active == 0 and (table[s_k, FENCE] == 0 or quiet)
        # FETCH
        handing = not small and full and inner[table[hand, UNIT]] != queue - 1
        taken = fetch_ready and (not full or handing)
        f_valid = active and not ended and (w_asked - w_freed != queue if small else reserved != FETCH_AHEAD)
        owner_room = owner_inner != owner_depth - 1
        asked = (f_valid or b_active) and owner_room and may_ask
        fetch_room = small or fetch_inner != fetch_depth - 1
        read = False
        real = False
        if l_active and not l_null:
            above = table[l_k, ABOVE]
            in_rows = above <= l_row < above + table[l_k, ROWS]
            real = in_rows and l_column >= table[l_k, LEFT] and not l_done
        if has_read and owner_ready:
            read = fetch_room if read_own[read_first] else real
        l_last_beat = l_beat == per_word - 1
        own_read = read and read_own[read_first] == 0
        word = False
        if l_active and not l_null:
            word = (own_read and l_last_beat) if real else True
        # STORE
        s_last_beat = s_beat == per_word - 1
        wrote = takes and wait_ready != 0
        wait_pop = takes and s_last_beat
        if small:
            step = s_reading and s_there and (wait_ready == 0 or (wrote and s_last_beat))
        else:
            step = s_reading and wait_inner + wait_ready < WAITING_WORDS - 3
        told = s_active == 1
        finished = done and not active

        moved = (
            any_start or asked or read or handing or taken or word or step or wrote or told or finish or answer
            or arrived or word_valid or l_post or (l_active and l_null) or finished
            or now in (conv_leave, vec_leave)
            or (not l_active and ahead_ready) or (ahead_inner and not ahead_ready)
            or (wait_inner and not wait_ready) or (fetch_inner and not fetch_ready) or (owner_inner and not owner_ready)
            or (ended and active and reserved == 0) or f_valid
            or w_copying or w_there or (small and s_reading and not s_there)
        )  # fmt: skip
        if small:
            everyone = True
            for u in range(4):
                w_want[u] = 0
                if w_at[u] == w_freed:
                    everyone = False
                if w_at[u] != w_arrived:
                    mine = table[w_at[u], UNIT] == u
                    if not mine or (not ready[u] and not w_copying):
                        moved = True
                    w_want[u] = mine and not ready[u] and not w_copying
            if everyone:
                moved = True
        for u in range(4):
            if inner[u] and not ready[u]:
                moved = True
        if not moved:
            # Only counters run: go on to the next cycle in which something can happen.
            target = limit
            if conv_leave > now:
                target = min(target, conv_leave)
            if vec_leave > now:
                target = min(target, vec_leave)
            if reads and read_time[read_first] > now:
                target = min(target, read_time[read_first])
            if answers and a_time[a_first] > now:
                target = min(target, a_time[a_first])
            skip = target - now
            busy[0] += skip * l_active
            busy[1] += skip * (conv_leave >= 0)
            busy[2] += skip * (vec_leave >= 0)
            busy[3] += skip * (s_reading or s_ending)
            now = target
            continue
        busy[0] += l_active
        busy[1] += conv_leave >= 0
        busy[2] += vec_leave >= 0
        busy[3] += s_reading or s_ending

        if finished:
            return now
        # Tokens given.
        given = 0
        if l_post:
            given = l_post
            for t in range(TOKENS):
                tokens[t] += given >> t & 1
        if conv_leave == now:
            for t in range(TOKENS):
                tokens[t] += table[conv_k, POST] >> t & 1
            conv_leave = -1
            if small:
                ready[1] = 0
        if vec_leave == now:
            for t in range(TOKENS):
                tokens[t] += table[vec_k, POST] >> t & 1
            vec_leave = -1
            if small:
                ready[2] = 0
        if finish:
            for t in range(TOKENS):
                tokens[t] += table[s_k, POST] >> t & 1
            ends[table[s_k, STAMP]] = now - 1
            if table[s_k, LAST]:
                done = 1
            s_ending = 0
            if small:
                ready[3] = 0
        l_post = 0

        # Memory, as the harness orders it.
        if wrote:
            w_beats[w_first] -= 1
            if w_beats[w_first] == 0:
                w_first = (w_first + 1) % wring
                writes -= 1
                a_time[(a_first + answers) % wring] = now + latency
                answers += 1
        popped = False
        if read:
            read_beats[read_first] -= 1
            popped = read_beats[read_first] == 0
        fetch_write = read and not own_read
        if popped:
            read_first = (read_first + 1) % ring
            reads -= 1
        if answer:
            a_first = (a_first + 1) % wring
            answers -= 1
            s_out -= 1
        by_fetch = asked and f_valid
        if asked:
            at = (read_first + reads) % ring
            reads += 1
            read_time[at] = now + latency
            read_own[at] = 1 if by_fetch else 0
            read_beats[at] = per_instruction if by_fetch else _burst(b_at, b_left, most)
        # Owners' queue: a burst's entry leaves with its last beat.
        owner_move = owner_inner != 0 and (owner_ready == 0 or popped)
        owner_inner += (1 if asked else 0) - (1 if owner_move else 0)
        if owner_move:
            owner_ready = 1
        elif popped:
            owner_ready = 0
        # Bursts of LOAD.
        if asked and not by_fetch:
            n = _burst(b_at, b_left, most)
            if b_left != n:
                b_left -= n
                b_at += n
            elif b_runs != 1:
                b_runs -= 1
                b_run += table[b_k, RUN_STRIDE]
                b_at = b_run
                b_left = table[b_k, BEATS]
            elif b_rows != 1:
                b_rows -= 1
                b_runs = table[b_k, RUNS]
                b_row += table[b_k, ROW_STRIDE]
                b_run = b_row
                b_at = b_row
                b_left = table[b_k, BEATS]
            else:
                b_active = 0
        # Bursts of STORE.
        if told:
            n = _burst(s_at, s_left, most)
            w_beats[(w_first + writes) % wring] = n
            writes += 1
            s_out += 1
            if s_left != n:
                s_left -= n
                s_at += n
            elif s_runs != 1:
                s_runs -= 1
                s_run += table[s_k, RUN_STRIDE]
                s_at = s_run
                s_left = table[s_k, BEATS]
            elif s_rows != 1:
                s_rows -= 1
                s_runs = table[s_k, RUNS]
                s_row += table[s_k, ROW_STRIDE]
                s_run = s_row
                s_at = s_row
                s_left = table[s_k, BEATS]
            else:
                s_active = 0

        # FETCH: counters, queue of beats, hand.
        if ended and active and reserved == 0:
            active = 0
            full = 0
        if small:
            complete = bool(fetch_write and w_got == per_instruction - 1)
        else:
            complete = bool(taken and got == per_instruction - 1)
        reserved += (1 if by_fetch else 0) - (1 if complete else 0)
        if by_fetch:
            asked_for += 1
        fetch_move = fetch_inner != 0 and (fetch_ready == 0 or taken)
        fetch_inner += (1 if fetch_write and not small else 0) - (1 if fetch_move else 0)
        if fetch_move:
            fetch_ready = 1
        elif taken:
            fetch_ready = 0
        handed_unit = -1
        was_last = False
        if handing:
            handed_unit = table[hand, UNIT]
            was_last = table[hand, LAST] == 1
            full = 0
            hand += 1
        if taken:
            got = 0 if complete else got + 1
            if complete and not ended and not was_last:
                full = 1
        if handing and was_last:
            ended = 1
        if small:
            was_copying, here = w_copying, w_arrived
            if everyone:
                w_freed += 1
            if by_fetch:
                w_asked += 1
            if fetch_write:
                w_got = 0 if complete else w_got + 1
            if complete and not ended:
                if table[w_arrived, LAST]:
                    ended = 1
                w_arrived += 1
            copied = w_there != 0 and w_beat == per_copy - 1
            w_there, w_beat = 1 if w_copying and w_index != per_copy else 0, w_index
            if w_there:
                w_index += 1
            if copied:
                w_copying = 0
            for u in range(4):
                if w_at[u] != here and table[w_at[u], UNIT] != u:
                    w_at[u] += 1
                elif copied and w_who == u:
                    w_at[u] += 1
                    ready[u] = 1
            for u in range(3, -1, -1):
                if w_want[u] and not was_copying:
                    w_copying, w_who, w_index = 1, u, 0

        # Queues.
        for u in range(0 if small else 4):
            move = inner[u] != 0 and (ready[u] == 0 or start[u])
            inner[u] += (1 if handed_unit == u else 0) - (1 if move else 0)
            if move:
                ready[u] = 1
            elif start[u]:
                ready[u] = 0

        # LOAD's words.
        idle_before = l_active == 0
        took = idle_before and ahead_ready == 1
        if l_active and l_null:
            l_active = 0
            l_post = table[l_k, POST]
            if small:
                ready[0] = 0
        elif word:
            last_column = l_column == table[l_k, WIDTH] - 1
            l_column += 1
            if real:
                l_word += 1
                if l_word == table[l_k, WORDS]:
                    l_word = 0
                    l_run += 1
                    if l_run == table[l_k, RUNS]:
                        l_done = 1
            if last_column:
                l_column, l_word, l_run, l_done = 0, 0, 0, 0
                l_row += 1
                if l_row == table[l_k, ABOVE] + table[l_k, ROWS] + table[l_k, BELOW]:
                    l_active = 0
                    l_post = table[l_k, POST]
                    if small:
                        ready[0] = 0
        if own_read:
            l_beat = 0 if l_last_beat else l_beat + 1
        if took or (small and start[0]):
            l_k = order[0, ahead_first]
            ahead_first += 1
            rows = table[l_k, ABOVE] + table[l_k, ROWS] + table[l_k, BELOW]
            l_active = 1
            l_null = 1 if rows == 0 or table[l_k, WIDTH] == 0 else 0
            l_row, l_column, l_word, l_run, l_done = 0, 0, 0, 0, 0
        # The register of the queue is read whenever LOAD is idle.
        ahead_move = ahead_inner != 0 and (ahead_ready == 0 or idle_before)
        ahead_inner += (0 if small else start[0]) - (1 if ahead_move else 0)
        if ahead_move:
            ahead_ready = 1
        elif idle_before:
            ahead_ready = 0

        # STORE's words.
        if small:
            s_there = 1 if s_reading and not step else 0
            if step:
                wait_ready = 1
            elif wait_pop and wrote:
                wait_ready = 0
        wait_move = wait_inner != 0 and (wait_ready == 0 or wait_pop)
        wait_inner += word_valid - (1 if wait_move else 0)
        if wait_move:
            wait_ready = 1
        elif wait_pop and not small:
            wait_ready = 0
        if wrote:
            s_beat = 0 if s_last_beat else s_beat + 1
        word_valid = arrived
        arrived = 1 if step and not small else 0
        if step:
            s_words -= 1
            if s_words == 0:
                s_reading = 0
                s_ending = 1

        # Starts.
        if start[0]:
            k = order[0, started[0]]
            if table[k, ROWS] and table[k, RUNS] and table[k, BEATS]:
                b_active, b_k = 1, k
                b_at = b_run = b_row = table[k, ADDRESS]
                b_left, b_runs, b_rows = table[k, BEATS], table[k, RUNS], table[k, ROWS]
        if start[1]:
            conv_k = order[1, started[1]]
            conv_leave = now + table[conv_k, STEPS] + conv_leaves
        if start[2]:
            vec_k = order[2, started[2]]
            vec_leave = now + table[vec_k, STEPS] + vec_leaves
        if start[3]:
            s_k = order[3, started[3]]
            s_reading, s_active = 1, 1
            s_words = table[s_k, ROWS] * table[s_k, PIXELS] * table[s_k, WORDS]
            s_at = s_run = s_row = table[s_k, ADDRESS]
            s_left, s_runs, s_rows = table[s_k, BEATS], table[s_k, RUNS], table[s_k, ROWS]
        for u in range(4):
            started[u] += start[u]
        now += 1
    return -1
