# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What tests/run and tests/full share: a part, its log in $logs, its line and its counts. To be sourced.
passed=0
failed=0
skipped=0

# part NAME COMMAND...: one check that passes or fails as a whole
part() {
    name=$1
    shift
    if "$@" >"$logs/$name.log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n' "$name"
        tail -60 "$logs/$name.log"
    fi
}

# meson NAME FOLDER ARGS...: unit tests; counts each
unit() {
    name=$1
    folder=$2
    shift 2
    meson test -C "$folder" --no-rebuild --print-errorlogs "$@" >"$logs/$name.log" 2>&1
    good=$(sed -n 's/^Ok: *//p' "$logs/$name.log" | tail -1)
    bad=$(awk '/^(Fail|Timeout|Unexpected Pass):/ {n += $NF} END {print n + 0}' "$logs/$name.log")
    [ -n "$good" ] && [ "$good" -gt 0 ] || bad=$((bad + 1)) # nothing ran: that is a failure
    passed=$((passed + ${good:-0}))
    failed=$((failed + bad))
    printf '%-5s %s: %s tests\n' "$([ "$bad" = 0 ] && echo ok || echo FAIL)" "$name" "${good:-0}"
    [ "$bad" = 0 ] || tail -80 "$logs/$name.log"
}

# tally NAME BEGAN: adds what pytest counted in its log
tally() {
    name=$1
    began=$2
    last=$(tail -1 "$logs/$name.log")
    good=$(echo "$last" | sed -n 's/.*\b\([0-9][0-9]*\) passed.*/\1/p')
    bad=$(echo "$last" | sed -n 's/.*\b\([0-9][0-9]*\) failed.*/\1/p')
    errors=$(echo "$last" | sed -n 's/.*\b\([0-9][0-9]*\) error.*/\1/p')
    bad=$((${bad:-0} + ${errors:-0}))
    [ -n "$good" ] || bad=$((bad + 1))
    passed=$((passed + ${good:-0}))
    failed=$((failed + bad))
    printf '%-5s %s: %s tests, %s s\n' "$([ "$bad" = 0 ] && echo ok || echo FAIL)" "$name" "${good:-0}" \
        "$(($(date +%s) - began))"
    [ "$bad" = 0 ] || tail -150 "$logs/$name.log"
}

# system NAME ARGS...: pytest, some tests side by side for they mostly wait; counts each
system() {
    name=$1
    shift
    began=$(date +%s)
    /usr/bin/python3 -m pytest -q -n "${PARALLEL:-4}" --dist "${SPREAD:-loadfile}" --maxfail=25 -p no:cacheprovider "$@" >"$logs/$name.log" 2>&1
    tally "$name" "$began"
}

# strangers ARGS...: real mail beside other programs, counted like system; skipped where the mail cannot be had
strangers() {
    began=$(date +%s)
    code=0
    tests/strangers/run "$@" >"$logs/strangers.log" 2>&1 || code=$?
    if [ $code = 77 ]; then
        skipped=$((skipped + 1))
        printf 'skip  strangers: their messages cannot be had here (tests/strangers/README.md)\n'
        return
    fi
    tally strangers "$began"
}

# folder FOLDER COMPILER OPTIONS...: a build beside the plain one
folder() {
    place=$1
    compiler=$2
    shift 2
    [ -f "$place/build.ninja" ] || CC=$compiler meson setup "$place" "$@" || return 1
    ninja -C "$place"
}

# suite NAME: conformance data of others, counted as one check; skipped where the data is not here
suite() {
    code=0
    tests/suites/run "$1" >"$logs/suite-$1.log" 2>&1 || code=$?
    case $code in
        0) passed=$((passed + 1)); printf 'ok    suite %s\n' "$1" ;;
        77) skipped=$((skipped + 1)); printf 'skip  suite %s: its data is not here (tests/suites/README.md)\n' "$1" ;;
        *) failed=$((failed + 1)); printf 'FAIL  suite %s\n' "$1"; tail -60 "$logs/suite-$1.log" ;;
    esac
}

finish() {
    printf '\n%d passed, %d failed%s\n' $passed $failed "$([ $skipped = 0 ] || echo ", $skipped skipped")"
    [ $failed = 0 ]
    exit
}
