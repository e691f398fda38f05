#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a message costs in calls: calls.sh PEER [LOAD...]. Counts system calls, syncs and context
# switches (wake-ups) of all processes of the peer during one run of each load, by perf's
# tracepoints, which cost the peer next to nothing; with strace where there is no perf (then without
# wake-ups, and with smaller batches, as strace slows the peer down). Rows go to calls.tsv.
. "$(dirname "$0")/lib.sh"
PEER=${1:?usage: calls.sh PEER [LOAD...]}
shift
LOADS=${*:-a20 a100 a2 b d}
MESSAGES=${MESSAGES:-2000}
. "$BENCH_DIR/peers/$PEER.sh" || fail "no such peer"
build_tools
RESULTS=$WORKDIR/calls-results.tsv
results_header
peer_setup
sink_start
peer_start || fail "$PEER does not start"
out=$WORKDIR/calls.out

begin_count() {
    local pids
    pids=$(cg_pids "$PEER")
    if perf stat -e raw_syscalls:sys_enter true >/dev/null 2>&1; then
        HOW=perf
        perf stat -x, -o "$out" -p "$(paste -sd, <<<"$pids")" -e \
            raw_syscalls:sys_enter,syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync,context-switches &
    else
        HOW=strace
        strace -c -f -q -o "$out" $(printf -- '-p %s ' $pids) 2>/dev/null &
    fi
    COUNTER=$!
    sleep 1
}
end_count() {
    kill -INT "$COUNTER" 2>/dev/null
    wait "$COUNTER" 2>/dev/null
}
# a row: peer, load, how, messages, and for each message: system calls, syncs, wake-ups
tell() {
    awk -v peer="$PEER" -v load="$1" -v how="$HOW" -v n="$2" '
        how == "perf" { split($0, f, ","); v[f[3]] = f[1] }
        how == "strace" && $NF ~ /^f(data)?sync$/ { syncs += $4 }
        how == "strace" && $NF == "total" { all = $(NF - 1) + 0; for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) { all = $i; break } }
        END {
            if (how == "perf") {
                all = v["raw_syscalls:sys_enter"]
                syncs = v["syscalls:sys_enter_fsync"] + v["syscalls:sys_enter_fdatasync"]
                wakes = sprintf("%.2f", v["context-switches"] / n)
            } else
                wakes = "-"
            printf "%s\t%s\t%s\t%d\t%.1f\t%.3f\t%s\n", peer, load, how, n, all / n, syncs / n, wakes
        }' "$out" | tee -a "$WORKDIR/calls.tsv" >&2
}

for load in $LOADS; do
    n=$MESSAGES
    case $load in b) n=$((n / 4)) ;; c | d) n=$((n / 8)) ;; esac
    run_load "$PEER" "$load" $((n / 4)) 2>/dev/null # connections to the sink are there
    begin_count
    run_load "$PEER" "$load" "$n" 2>/dev/null
    end_count
    tell "$load" "$n"
done
peer_stop

# allocations and copies: once more, with a library that counts them
[ "$PEER" = postern ] || { sink_stop; exit; }
export BENCH_COUNT=$WORKDIR/counts
rm -f "$BENCH_COUNT"
LD_PRELOAD=$BIN/bench-count.so peer_start || fail "$PEER does not start with bench-count"
counts() { od -An -v -w24 -t u8 "$BENCH_COUNT"; }
for load in $LOADS; do
    n=$MESSAGES
    case $load in b) n=$((n / 4)) ;; c | d) n=$((n / 8)) ;; esac
    run_load "$PEER" "$load" $((n / 4)) 2>/dev/null
    before=$(counts)
    run_load "$PEER" "$load" "$n" 2>/dev/null
    awk -v peer="$PEER" -v load="$load" -v n="$n" -v a="$before" -v b="$(counts)" 'BEGIN {
        split(a, x, " "); split(b, y, " ")
        printf "%s\t%s\t%.0f\t%.0f\t%.1f\n", peer, load, (y[1] - x[1]) / n, (y[2] - x[2]) / n, (y[3] - x[3]) / n / 1024
    }' | tee -a "$WORKDIR/copies.tsv" >&2
done
peer_stop
sink_stop
