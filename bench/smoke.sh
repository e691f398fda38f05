#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The books, not the speed: every load once with few messages; fails when a message is missing, there
# twice, damaged or refused. Part of the tests.
. "$(dirname "$0")/lib.sh"
NO_CALIBRATION=1
. "$BENCH_DIR/peers/postern.sh"
build_tools
results_header
peer_setup
sink_start
peer_start || fail "postern does not start"
for load in a20:200 a100:200 a2:400 b:60 c:20 d:40 e:60 f:60; do
    run_load postern "${load%:*}" "${load#*:}"
done
peer_stop
sink_stop
awk -F'\t' 'NR > 1 { runs++; if ($4 != $5 || $15 != 0 || $16 != 0 || $17 != 0 || $18 != 0) { bad++; print "not whole: " $0 } }
    END { print runs " loads, " bad + 0 " not whole"; exit bad || runs != 8 }' "$RESULTS"
