# SPDX-License-Identifier: Apache-2.0
# Shared by demo/run and demo/cases; sourced. Starts and stops the world of the demo.
top=$(cd "$(dirname "$0")/.." && pwd)
folder=$top/build/demo
pids=

world_files() {
    mkdir -p "$folder/tls" "$folder/zones" "$folder/spool"
    chmod 755 "$folder" "$folder/tls"
    [ -f "$folder/tls/cert.pem" ] ||
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
            -keyout "$folder/tls/key.pem" -out "$folder/tls/cert.pem" -subj /CN=mx.example.org \
            -addext subjectAltName=DNS:mx.example.org,DNS:localhost,IP:127.0.0.1 2>/dev/null
    chmod 600 "$folder/tls/key.pem"
    cp "$top/demo/postern.yaml" "$folder/postern.yaml"
    cp "$top/demo/root.zone" "$folder/zones/root.zone"
    cat > "$folder/nsd.conf" <<C
server:
    ip-address: 127.0.0.1@5354
    zonesdir: "$folder/zones"
    database: ""
    pidfile: "$folder/nsd.pid"
    xfrdfile: "$folder/xfrd.state"
    zonelistfile: "$folder/zone.list"
    username: ""
    chroot: ""
    verbosity: 0
    logfile: "$folder/nsd.log"
    server-count: 1
    log-only-syslog: no
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "root.zone"
C
}

world_start() {
    world_files
    nsd=$(command -v nsd || echo /usr/sbin/nsd)
    "$nsd" -d -c "$folder/nsd.conf" >"$folder/nsd.out" 2>&1 &
    pids="$pids $!"
    /usr/bin/python3 "$top/demo/world.py" --folder "$folder" >"$folder/world.log" 2>&1 &
    world_pid=$!
    pids="$pids $world_pid"
    echo $world_pid > "$folder/world.pid"
    i=0
    while ! grep -q 'world ready' "$folder/world.log"; do
        i=$((i + 1))
        if [ $i -gt 100 ] || ! kill -0 $world_pid 2>/dev/null; then
            cat "$folder/world.log" "$folder/nsd.out" >&2
            echo "the demo world does not start (are the ports 2526, 2627 and 5354 free?)" >&2
            return 1
        fi
        sleep 0.1
    done
}

world_stop() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
