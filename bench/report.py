#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of one run of report.sh as Markdown: report.py WORKDIR RESULTS"""
import collections
import csv
import datetime
import os
import pathlib
import platform
import re
import statistics
import sys

WORKDIR, RESULTS = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
LOADS = {
    "a20": "4 KiB, 20 sessions, a connection each",
    "a100": "as a20, 100 sessions",
    "a500": "as a20, 500 sessions",
    "a2": "4 KiB, 20 sessions, 100 messages a connection",
    "b": "100 KiB, 20 sessions",
    "c": "1 MiB, 20 sessions",
    "d": "4 KiB, 50 recipients, 20 sessions",
    "e": "as a20 with STARTTLS, full handshake, ECDSA",
    "f": "as e with AUTH PLAIN, 100 users who logged in before",
}
# What is wanted: times Postfix, CPU ms a message, what of limits.tsv is a batch of 20 such messages.
GOALS = {
    "a20": (9, 0.28, 16),
    "a100": (9, 0.28, None),
    "a500": (9, 0.28, None),
    "a2": (15, 0.15, 16),
    "b": (5, 0.8, 500),
    "c": (2.5, 5, 5120),
    "d": (12, 0.45, 16),
    "e": (3.5, 0.35, 16),  # and the server's half of a handshake
    "f": (3, 0.45, 16),  # the same
}
LOAD_SESSIONS = {"a100": 100, "a500": 500}  # 20 in all others
SHARE = 60  # percent of the ceiling
BOOKS_MS = 0.03  # checksum, log and books of a message, as measured alone


def rows(name):
    path = WORKDIR / name
    if not path.exists():
        return []
    with path.open() as file:
        return [line.rstrip("\n").split("\t") for line in file]


def results():
    """{(peer, load): [row, ...]}"""
    table = collections.defaultdict(list)
    with RESULTS.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["load"] in LOADS or row["load"] in ("m", "f0"):
                table[row["peer"], row["load"]].append(row)
    return table


def median(found, column):
    return statistics.median(float(row[column]) for row in found)


def ends(table):
    """{load: CPU ms that source and sink need for a message without a gateway between them}"""
    cost = {load: os.cpu_count() * 1000 / median(table["none", load], "accept_per_s")
            for load in LOADS if table.get(("none", load))}
    if "e" in cost:
        # the sink shakes hands on one core, while the source waits: what counts is what both need
        cost["f"] = cost["e"] = min(cost["e"], median(table["none", "e"], "load_ms_per_msg") or cost["e"])
    return cost


def cpu_wanted(load):
    """CPU ms a message that the goal leaves the gateway."""
    handshakes = limit("TLS 1.3 full handshakes, server side alone") if load in "ef" else None
    return GOALS[load][1] + (1000 / handshakes if handshakes else 0)


def ceilings(table):
    """Messages a second of these cores with a gateway that needs all the CPU its goal leaves it,
    and not more than four fifths of what the disk lets so many sessions do, one sync each and half of another waited for."""
    found = {}
    for load, cost in ends(table).items():
        top = os.cpu_count() * 1000 / (cost + cpu_wanted(load))
        syncs = [float(row["disk_syncs_per_s"]) for row in table.get(("postern", load), [])]
        if syncs:
            top = min(top, 0.8 * LOAD_SESSIONS.get(load, 20) * statistics.median(syncs) / 1.5)
        found[load] = top
    return found


def free_gateway(table):
    """Messages a second with a gateway that costs nothing but its part of the connections.

    A message to the gateway costs what it costs from source to sink; on to the sink it costs the
    same again, over a kept connection where the body is small; then there are the books."""
    cost = ends(table)
    if "a2" not in cost:
        return {}
    return {load: os.cpu_count() * 1000 / (one + (one if load in "bcd" else cost["a2"]) + BOOKS_MS)
            for load, one in cost.items()}


def machine():
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    place = max((m for m in mounts if str(WORKDIR).startswith(m[1])), key=lambda m: len(m[1]))
    return (f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {place[2]}, "
            f"Linux {platform.release()}")


def throughput(table):
    peers = sorted({peer for peer, _ in table if peer != "none"}, key=lambda peer: (peer == "postern", peer))
    top = ceilings(table)
    for load, text in LOADS.items():
        if not any(table.get((peer, load)) for peer in peers):
            continue
        print(f"### {load}: {text}\n")
        print("| peer | runs | accepted/s | drained/s | against Postfix | share of the ceiling | CPU ms a message "
              "| dot p50 ms | dot p99 ms | memory MiB | missing/dup/corrupt |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        reference = table.get(("postfix", load))
        for peer in peers:
            found = table.get((peer, load))
            if not found:
                continue
            drained = median(found, "drained_per_s")
            ratio = f"{drained / median(reference, 'drained_per_s'):.1f}" if reference else "-"
            share = f"{100 * drained / top[load]:.0f} % of {top[load]:,.0f}" if load in top else "-"
            books = "/".join(str(sum(int(float(row[key])) for row in found)) for key in ("missing", "dup", "corrupt"))
            print(f"| {peer} | {len(found)} | {median(found, 'accept_per_s'):,.0f} | {drained:,.0f} | {ratio} | {share} "
                  f"| {median(found, 'cpu_ms_per_msg'):.3f} | {median(found, 'dot_p50_ms'):.1f} "
                  f"| {median(found, 'dot_p99_ms'):.1f} | {median(found, 'anon_mib'):.0f} | {books} |")
        print()
    busy = [float(row["other_cpus"]) for found in table.values() for row in found]
    syncs = [float(row["disk_syncs_per_s"]) for found in table.values() for row in found]
    print(f"Beside the runs, other work kept {statistics.median(busy):.2f} cores busy (at most {max(busy):.2f}); "
          f"the disk did {statistics.median(syncs):,.0f} single syncs a second ({min(syncs):,.0f} to {max(syncs):,.0f}).\n")


def limit(start):
    """The first value of limits.tsv whose name starts so, or None."""
    return next((float(row[1]) for row in rows("limits.tsv") if row[0].startswith(start)), None)


def disk_of(load):
    """Messages a second that the disk takes, for a load whose goal names it, or None."""
    return limit("files of 1 MiB written and synced, 20 threads") if load == "c" else None


def against(text, is_met):
    """A figure that misses its goal is bold."""
    return text if is_met else f"**{text}**"


def goals(table):
    """Each load beside what is wanted of it."""
    top, free = ceilings(table), free_gateway(table)
    lines = []
    for load, (wanted, _, batch) in GOALS.items():
        found, reference = table.get(("postern", load)), table.get(("postfix", load))
        if not found:
            continue
        drained, accepted = median(found, "drained_per_s"), median(found, "accept_per_s")
        times_reference = drained / median(reference, "drained_per_s") if reference else 0
        share = 100 * drained / top[load] if load in top else 0
        cpu, p99 = median(found, "cpu_ms_per_msg"), median(found, "dot_p99_ms")
        cpu_most = cpu_wanted(load)
        of_free = f"{100 * drained / free[load]:.0f} %" if load in free else "-"
        disk = disk_of(load)
        is_fast = times_reference >= wanted or (disk and drained >= 0.8 * disk)
        of_disk = f" ({100 * drained / disk:.0f} % of what the disk writes)" if disk else ""
        syncs = limit(f"append, {batch} x 4 KiB per fdatasync, syncs")
        allowed = 2 * 1000 / syncs + 10 if syncs else None
        lines.append(f"| {load} | {against(f'{times_reference:.1f}', is_fast)}{of_disk} | {wanted} "
                     f"| {against(f'{share:.0f} %', share >= SHARE)} of {top.get(load, 0):,.0f} | {of_free} | {against(f'{cpu:.3f}', cpu <= cpu_most)} | {cpu_most:.2f} "
                     f"| {against(f'{100 * drained / accepted:.0f} %', drained >= 0.95 * accepted)} "
                     f"| {against(f'{p99:.1f}', not allowed or p99 <= allowed)} | {f'{allowed:.0f}' if allowed else '-'} |")
    if lines:
        print("### Beside the goals\n")
        print(f"What misses its goal is bold. Wanted besides: {SHARE} % of the ceiling; all but 5 % of what is accepted drained "
              "meanwhile; a 99th percentile, at 20 sessions, of at most two syncs of a batch of 20 such messages and 10 ms. "
              "The last share is of a gateway that would cost nothing: what is left to gain.\n")
        print("| load | times Postfix | wanted | share of the ceiling | of a free gateway | CPU ms a message | wanted | drained of accepted "
              "| dot p99 ms | at most |\n|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n")


def control_of_mixed(table):
    """The same large messages without the gateway: what generator, sink and two cores alone do to a2."""
    control, sent = table.get(("postern", "mc")), rows("large-m")
    if not control or not sent:
        return []
    return [f"| the same, the large ones straight to the sink, ms | {median(control, 'dot_p99_ms'):.1f} "
            f"| as many of them as before, {float(sent[-1][0]):.1f} a second |"]


def extra(table):
    """What is measured of Postern alone."""
    lines = []
    a2, mixed = table.get(("postern", "a2")), table.get(("postern", "m"))
    if a2 and mixed:
        alone, beside = median(a2, "dot_p99_ms"), median(mixed, "dot_p99_ms")
        lines.append(f"| m: p99 of a2 beside 4 senders of 25 MB, ms | {beside:.1f} | {alone:.1f} without them: "
                     f"{against(f'{beside / alone:.1f} times', beside <= 3 * alone)} (at most 3) |")
        lines += control_of_mixed(table)
    cached, hashed, cost = table.get(("postern", "f")), table.get(("postern", "f0")), rows("hash.tsv")
    if hashed and cost:
        hash_ms, rate = float(cost[0][1]), median(hashed, "accept_per_s")
        line = f"| f0: AUTH PLAIN without the cache, accepted/s | {rate:,.0f} | a hash ({cost[0][0]}) costs {hash_ms:.2f} ms"
        if cached:
            leaves = 1 / (1 / median(cached, "accept_per_s") + hash_ms / 1000 / os.cpu_count())
            line += f", which leaves {leaves:,.0f}/s of f: " + against(f"{100 * rate / leaves:.0f} %", rate >= 0.8 * leaves) + " (80 % wanted)"
        lines.append(line + " |")
    for row in rows("workers.tsv"):
        lines.append(f"| one destination, {row[0]} workers: drained/s | {float(row[7]):,.0f} | CPU {row[8]} ms a message |")
    if lines:
        print("## Mixed load, passwords, workers\n\n| what | | |\n|---|---|---|\n" + "\n".join(lines) + "\n")


def calls():
    found = rows("calls.tsv")
    if not found:
        return
    print("## Calls a message\n\nAll threads of the gateway, both sides of the message, "
          f"counted with {found[0][2]}.\n")
    copies = {row[1]: row[2:5] for row in rows("copies.tsv")}
    print("| load | system calls | syncs | wake-ups (context switches) | allocations | copies (memcpy) | KiB copied |")
    print("|---|---|---|---|---|---|---|")
    for row in found:
        print(f"| {row[1]} | {row[4]} | {row[5]} | {row[6]} | {' | '.join(copies.get(row[1], '---'))} |")
    print()


def idle():
    found = rows("idle.tsv")
    if not found:
        return
    print("## Idle sessions\n\nEach said EHLO and waits; memory 12 s later. a20 with 5 sessions runs without and with them. "
          "Beside the time until all were greeted stands the least that the handshakes need: the server's half alone, on all cores; "
          "and what CPU time gateway and generator took of those cores until then.\n")
    print("| sessions | greeted | within s | handshakes alone s | CPU s gateway | CPU s generator | KiB a session (PSS) "
          "| messages/s without | with them |\n|---|---|---|---|---|---|---|---|---|")
    handshakes = limit("TLS 1.3 full handshakes, server side alone")
    for row in found:
        values = dict(item.split("=") for item in row if "=" in item)
        kind, parts = (", half TLS", 2) if "half-tls" in row else (", TLS", 1) if "tls" in row else ("", 0)
        least = f"{int(row[1]) / parts / handshakes / os.cpu_count():.2f}" if parts and handshakes else "-"
        print(f"| {int(row[1]):,}{kind} | {row[2].replace('ready ', '')} | {values.get('greeted_s', '-')} "
              f"| {least} | {values.get('cpu_s', '-')} | {values.get('load_cpu_s', '-')} | {values.get('kb_per_conn', '-')} | {values.get('rate_without', '-')} | {values.get('rate_with', '-')} |")
    print()


def storm_notes(peer):
    return {row[3].split(":")[0]: dict(re.findall(r"(\w+)=([\d.]+)", row[3])) for row in rows("storm.tsv") if row[0] == peer}


def times(value, other):
    """", N times Postfix" where both are known"""
    return f", {float(value) / float(other):.1f} times Postfix" if value and other and float(other) else ""


def storm(table):
    notes, postfix = storm_notes("postern"), storm_notes("postfix").get("drain", {})
    if not notes:
        return
    accept = notes.get("accept while refusing", {})
    start = notes.get("start with the queue", {})
    drain = notes.get("drain", {})
    count = float(accept.get("queued") or 0)
    memory = float(accept.get("anon_kb_after", 0)) - float(accept.get("anon_kb_before", 0))
    a2 = table.get(("postern", "a2"))
    share = f", {100 * float(accept['rate']) / median(a2, 'accept_per_s'):.0f} % of a2" if a2 and "rate" in accept else ""
    print("## Deferral storm, and a start with a queue\n\n| what | |\n|---|---|")
    print(f"| accepted a second while all is answered 451 | {accept.get('rate', '-')}{share} |")
    print(f"| CPU ms a message meanwhile | {accept.get('cpu_ms_per_msg', '-')} |")
    print(f"| queued | {count:,.0f} |")
    print(f"| memory a queued message after it, KiB (anonymous) | {memory / count if count else 0:.2f} |")
    if start and count:
        print(f"| memory a queued message after a start, KiB | "
              f"{(float(start.get('anon_kb', 0)) - float(start.get('anon_kb_fresh', 0))) / count:.2f} |")
    print(f"| start with that queue: ms until it greets | {start.get('greeting_ms', '-')} |")
    print(f"| CPU ms in the first 5 s after | {start.get('cpu_ms_first_5s', '-')} |")
    print(f"| drained a second | {drain.get('rate', '-')}{times(drain.get('rate'), postfix.get('rate'))} |")
    cpu, theirs = drain.get("cpu_ms_per_msg", "-"), postfix.get("cpu_ms_per_msg")
    print(f"| CPU ms a message, draining | {cpu}{f' (Postfix {theirs})' if theirs else ''} |")
    print(f"| arrived twice | {drain.get('dup', '-')} |\n")


def limits():
    found = rows("limits.tsv")
    if not found:
        return
    print("## The machine\n\n| what | measured | |\n|---|---|---|")
    for row in found:
        if len(row) >= 3:
            print(f"| {row[0]} | {row[1]} | {row[2]} |")
    print()


def main():
    table = results()
    print("# Performance\n")
    print(f"Measured {datetime.date.today().isoformat()} on {machine()}, by `make bench` (bench/README.md). Medians. "
          "Every 250 follows the sync that covers the message; events are on. Load generator, gateway and sink share "
          "the cores, so rates are of the whole and CPU is of the gateway alone.\n")
    print("The ceiling is what these cores do where source and sink need what they need without a gateway between them, and the "
          "gateway all the CPU that its goal leaves it; at most four fifths of what the disk's syncs allow. Who needs less passes it. "
          f"A free gateway would cost only a second pass of the message and {BOOKS_MS} ms for checksum, log and books.\n")
    print("## Throughput\n")
    throughput(table)
    goals(table)
    extra(table)
    calls()
    idle()
    storm(table)
    limits()


main()
