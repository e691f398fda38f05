#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All of it, side by side on this machine in one run, and docs/performance.md: limits, ceiling, the
# loads of each peer turn by turn, calls a message, idle sessions, storm. About ten minutes.
# Settings: PEERS LOADS REPS SECONDS_PER_RUN STORM IDLE OUT (where the report goes).
PEERS=${PEERS:-postfix postern}
LOADS=${LOADS:-a20 a100 a500 a2 b c d e f}
export REPS=${REPS:-3} SECONDS_PER_RUN=${SECONDS_PER_RUN:-3}
export CG_WEIGHT=${CG_WEIGHT:-16384}   # the measured processes go before the rest of the machine
export BENCH_OWNER=$$
. "$(dirname "$0")/lib.sh"
OUT=${OUT:-$BENCH_DIR/../docs/performance.md}
STORM=${STORM:-50000}
IDLE=${IDLE:-10000}
export RESULTS
rm -f "$RESULTS" "$WORKDIR"/large-* "$WORKDIR"/{calls,copies,idle,storm,limits,hash,workers}.tsv

need() {                            # need COMMAND PACKAGE: installs what is missing
    command -v "$1" >/dev/null && return
    say "installing $2"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2" >"$WORKDIR/apt.log" 2>&1 ||
        fail "cannot install $2, see $WORKDIR/apt.log"
}
need gcc gcc
need make make
need strace strace
need python3 python3-minimal
[ -f /usr/include/openssl/ssl.h ] || need openssl-headers libssl-dev
[ "$(id -u)" = 0 ] || fail "private roots of peers and control groups need root"
build_tools

# step WHAT COMMAND...: with a bound in time; a step that fails is named and the rest goes on
step() {
    say "$1"
    shift
    timeout --foreground -k 30 "${STEP_LIMIT:-400}" "$@" || say "this step failed: $*"
}
step "limits of the machine" "$BIN/bench-limits" -t 1 -k "$CERT:$KEY" "$WORKDIR" > "$WORKDIR/limits.tsv"
REPS=1 step "source straight to sink" "$BENCH_DIR/ceiling.sh"
for turn in $(seq "$REPS"); do
    for peer in $PEERS; do
        REPS=1 step "$peer, turn $turn of $REPS" "$BENCH_DIR/run.sh" "$peer" $LOADS
    done
done
case " $PEERS " in
*" postern "*)
    step "a2 beside large messages" "$BENCH_DIR/run.sh" postern m mc
    step "cost of a password's hash" "$BENCH_DIR/hash.sh"
    REPS=1 POSTERN_CACHE=0s step "AUTH without the cache" "$BENCH_DIR/run.sh" postern f0
    for workers in 1 2 4; do
        REPS=1 RESULTS=$WORKDIR/workers-$workers.tsv POSTERN_WORKERS=$workers \
            step "one destination, $workers workers" "$BENCH_DIR/run.sh" postern a2
        sed -n "\$s/^/$workers\t/p" "$WORKDIR/workers-$workers.tsv" >> "$WORKDIR/workers.tsv"
        rm -f "$WORKDIR/workers-$workers.tsv"
    done
    step "calls a message" "$BENCH_DIR/calls.sh" postern
    step "idle sessions" "$BENCH_DIR/idle.sh" postern "$IDLE"
    IDLE_OPTIONS="--starttls --tls-every 2" step "idle sessions, half with TLS" "$BENCH_DIR/idle.sh" postern "$IDLE"
    IDLE_OPTIONS=--starttls step "idle sessions with TLS" "$BENCH_DIR/idle.sh" postern $((IDLE / 2))
    step "deferral storm of $STORM messages" "$BENCH_DIR/storm.sh" postern "$STORM"
    case " $PEERS " in
    *" postfix "*) step "the same of Postfix, fewer" "$BENCH_DIR/storm.sh" postfix $((STORM / 20)) ;;
    esac
    ;;
esac
"$BENCH_DIR/report.py" "$WORKDIR" "$RESULTS" > "$WORKDIR/report.md" || fail "no report"
# what stands below the mark was measured by other programs and stays
[ -f "$OUT" ] && sed -n '/^<!-- not by report.sh -->$/,$p' "$OUT" >> "$WORKDIR/report.md"
cp "$WORKDIR/report.md" "$OUT"
cat "$OUT"
say "written to $OUT"
