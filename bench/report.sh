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
rm -f "$RESULTS" "$WORKDIR"/{calls,idle,storm,limits}.tsv

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
    step "calls a message" "$BENCH_DIR/calls.sh" postern
    step "idle sessions" "$BENCH_DIR/idle.sh" postern "$IDLE"
    IDLE_OPTIONS=--starttls step "idle sessions with TLS" "$BENCH_DIR/idle.sh" postern $((IDLE / 2))
    step "deferral storm of $STORM messages" "$BENCH_DIR/storm.sh" postern "$STORM"
    ;;
esac
"$BENCH_DIR/report.py" "$WORKDIR" "$RESULTS" > "$WORKDIR/report.md" || fail "no report"
cp "$WORKDIR/report.md" "$OUT"
cat "$OUT"
say "written to $OUT"
