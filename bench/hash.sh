#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Milliseconds of CPU that checking a password against the users file costs, by the library that the
# gateway uses. To hash.tsv.
. "$(dirname "$0")/lib.sh"
. "$BENCH_DIR/peers/postern.sh"
build_tools
peer_setup
python3 -W ignore - "$PEER_DIR/users" "${AUTH#*:}" <<'P' | tee "$WORKDIR/hash.tsv" >&2
import crypt, re, sys, time
stored = re.search(r"\$[^:\s]+", open(sys.argv[1]).read()).group(0)
assert crypt.crypt(sys.argv[2], stored) == stored
best = 1e9
for _ in range(5):
    start = time.process_time()
    for _ in range(5):
        crypt.crypt(sys.argv[2], stored)
    best = min(best, (time.process_time() - start) / 5)
print(f"{stored.split('$')[1]}\t{best * 1000:.3f}")
P
