# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What tests/run and tests/full share: a part, its log in $logs, its line and its counts. To be sourced.
passed=0
failed=0
skipped=0
what_failed=

# remember NAME LINES: for the very end, which may be all that is read
remember() {
    what_failed="$what_failed
--- $1 ($logs/$1.log)
$2
"
}

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
        remember "$name" "$(tail -15 "$logs/$name.log")"
    fi
}

# again TEST COMMAND...: a test that failed, once more and alone. It stays failed: what it does now is for who mends it.
again() {
    test=$1
    shift
    if timeout -k 60 1200 "$@" >"$logs/again.log" 2>&1; then
        printf 'FLAKY %s: failed beside others, passed alone; that is a failure\n' "$test"
    else
        printf 'BROKEN %s: fails alone, too\n' "$test"
    fi
}

# meson NAME FOLDER ARGS...: unit tests; counts each
unit() {
    name=$1
    folder=$2
    shift 2
    # the time-outs of meson are for an idle machine
    meson test -C "$folder" --no-rebuild --print-errorlogs --timeout-multiplier 10 "$@" >"$logs/$name.log" 2>&1
    good=$(sed -n 's/^Ok: *//p' "$logs/$name.log" | tail -1)
    bad=$(awk '/^(Fail|Timeout|Unexpected Pass):/ {n += $NF} END {print n + 0}' "$logs/$name.log")
    [ -n "$good" ] && [ "$good" -gt 0 ] || bad=$((bad + 1)) # nothing ran: that is a failure
    passed=$((passed + ${good:-0}))
    failed=$((failed + bad))
    printf '%-5s %s: %s tests\n' "$([ "$bad" = 0 ] && echo ok || echo FAIL)" "$name" "${good:-0}"
    [ "$bad" != 0 ] || return 0
    tail -80 "$logs/$name.log"
    names=$(sed -n 's/^ *[0-9]*\/[0-9]* \(.*[^ ]\)  *\(FAIL\|TIMEOUT\|ERROR\|UNEXPECTEDPASS\) .*/\1/p' "$logs/$name.log" | sort -u | head -5)
    remember "$name" "$(for test in ${names##* / }; do
        again "$test" meson test -C "$folder" --no-rebuild --timeout-multiplier 10 "${test##* }"
    done)"
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
    [ "$bad" != 0 ] || return 0
    tail -150 "$logs/$name.log"
    remember "$name" "$(
        # the part of rig/watch.py: names, and the last words of the gateways; without it, its end
        sed -n '/^=* what failed =*$/,/^=* short test summary/p' "$logs/$name.log" | grep -v '^===' | cut -c1-400 | head -100 | grep . ||
            tail -5 "$logs/$name.log"
        sed -n 's/^\(FAILED\|ERROR\) \(.*\.py::.*\)/\2/p' "$logs/$name.log" | sed 's/ - .*//' | sort -u | head -5 | while read -r test; do
            again "$test" /usr/bin/python3 -m pytest -q -p no:cacheprovider "$test"
        done
    )"
}

# system NAME ARGS...: pytest, some tests side by side for they mostly wait; counts each
system() {
    name=$1
    shift
    began=$(date +%s)
    /usr/bin/python3 -m pytest -q -n "${PARALLEL:-4}" --dist "${SPREAD:-loadfile}" --maxfail=25 --max-worker-restart=2 -p no:cacheprovider "$@" >"$logs/$name.log" 2>&1
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
        *)
            failed=$((failed + 1))
            printf 'FAIL  suite %s\n' "$1"
            tail -60 "$logs/suite-$1.log"
            remember "suite-$1" "$(tail -15 "$logs/suite-$1.log")"
            ;;
    esac
}

finish() {
    [ -z "$what_failed" ] || printf '\nWhat failed:\n%s' "$what_failed"
    printf '\n%d passed, %d failed%s\n' $passed $failed "$([ $skipped = 0 ] || echo ", $skipped skipped")"
    [ $failed = 0 ]
    exit
}
