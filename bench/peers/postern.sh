# SPDX-License-Identifier: Apache-2.0
# Postern: one process with a worker a core, a segment log with group commit, delivery from memory.
AUTH=bench%:secret
AUTH_USERS=100
POSTERN_BUILD=${POSTERN_BUILD:-$BENCH_DIR/../build}
peer_setup() {
    PEER_DIR=$WORKDIR/postern
    mkdir -p "$PEER_DIR" "$WORKDIR/spool/postern-$SPOOL_FS"
    if [ "$SPOOL_FS" = tmpfs ]; then
        mountpoint -q "$WORKDIR/spool/postern-tmpfs" || mount -t tmpfs -o size=8g bench "$WORKDIR/spool/postern-tmpfs"
    fi
    rm -f "$PEER_DIR/users"
    for i in $(seq "$AUTH_USERS"); do
        echo secret | "$POSTERN_BUILD/postern" user add --file "$PEER_DIR/users" "bench$i" >/dev/null
    done
    cat > "$PEER_DIR/postern.yaml" <<C
version: 1
hostname: gateway.test
servers:
  sink: { smtp: "$ADDR:$SINK_PORT", tls: none }
certificates:
  main: { cert: $CERT, key: $KEY }
trusted_networks: [ 127.0.0.0/8 ]
listeners:
  relay:
    listen: [ "$ADDR:$SMTP_PORT" ]
    tls: offered
    certificate: main
    authentication: { flow: users, required: false }
    # as for the other peers: no limits on sessions
    limits: { sessions: 20000, sessions_per_client: 20000, size: 100M }
flows:
  authentication:
    users:
      - file: { path: users, cache: ${POSTERN_CACHE:-1m} }
  recipient:
    own:
      - accept: { when: authenticated or client in trusted }
      - reject
  content:
    plain:
      - deliver
transports:
  out:
    method: server
    server: sink
    limits: { connections: 50 }
    retry: { delays: [ 5m ], count: 100 }
domains:
  any: { recipients: own, content: plain, transport: out }
entitlements: { open_relay_support: true }
${POSTERN_WORKERS:+workers: $POSTERN_WORKERS}
spool: { path: $WORKDIR/spool/postern-$SPOOL_FS }
control: { socket: $PEER_DIR/control.sock }
log: { to: file, path: $PEER_DIR/postern.log }
C
    "$POSTERN_BUILD/posternd" --config "$PEER_DIR/postern.yaml" --check || fail "postern: configuration refused"
}
peer_start() {
    cg_make postern
    (ulimit -n "$(ulimit -Hn)"; cg_exec postern "$POSTERN_BUILD/posternd" --config "$PEER_DIR/postern.yaml") >"$PEER_DIR/out" 2>&1 &
    wait_port "$SMTP_PORT" "${START_LIMIT:-15}"
}
peer_stop() { cg_kill postern; }
peer_queue_len() {
    "$POSTERN_BUILD/postern" --socket "$PEER_DIR/control.sock" --json status |
        sed -n 's/.*"entries":\([0-9]*\).*/\1/p'
}
peer_clear() { "$POSTERN_BUILD/postern" --socket "$PEER_DIR/control.sock" --yes queue drop --all >/dev/null; }
peer_flush() { "$POSTERN_BUILD/postern" --socket "$PEER_DIR/control.sock" --yes queue retry --all >/dev/null; }
IDLE_MAX=10000
