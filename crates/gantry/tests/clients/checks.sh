# What every script of this folder begins with: a check is one line of output, and a failed one says what was seen.
#
#   check NAME COMMAND...          the command ends with 0
#   fails NAME CODE COMMAND...     the command ends with CODE
#   same NAME WANTED COMMAND...    the command ends with 0 and prints exactly WANTED
#   like NAME PATTERN COMMAND...   the command ends with 0 and what it prints contains PATTERN (of grep -E)
#   until_like PATTERN COMMAND...  waits until what the command prints contains PATTERN
#
# RUNTIME is the runtime under test, IMAGE the archive of a busybox root, WORK a directory to write to.
set -u
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
# A command that hangs fails; a function of the script (with the commands in it) has no limit of its own.
limited() {
    case $(command -V "$1") in
    *function*) "$@" ;;
    *) timeout -k 5 "${LIMIT:-60}" "$@" </dev/null ;;
    esac
}
bad() { failed=$((failed + 1)); echo "FAILED  $1"; printf '%s\n' "$2" | sed 's/^/        /'; }
check() {
    name=$1; shift
    if seen=$(limited "$@" 2>&1); then ok "$name"; else bad "$name" "exit $?: $seen"; fi
}
fails() {
    name=$1 wanted=$2; shift 2
    seen=$(limited "$@" 2>&1); code=$?
    if [ "$code" = "$wanted" ]; then ok "$name"; else bad "$name" "exit $code instead of $wanted: $seen"; fi
}
same() {
    name=$1 wanted=$2; shift 2
    seen=$(limited "$@" 2>"$WORK/stderr"); code=$?
    if [ "$code" = 0 ] && [ "$seen" = "$wanted" ]; then ok "$name"; else
        bad "$name" "exit $code, wanted: $wanted
seen: $seen
$(cat "$WORK/stderr")"
    fi
}
like() {
    name=$1 wanted=$2; shift 2
    seen=$(limited "$@" 2>&1); code=$?
    if [ "$code" = 0 ] && printf '%s\n' "$seen" | grep -Eq -- "$wanted"; then ok "$name"; else
        bad "$name" "exit $code, wanted: $wanted
seen: $seen"
    fi
}
until_like() {
    wanted=$1; shift
    for _ in $(seq 600); do
        if "$@" 2>/dev/null | grep -Eq -- "$wanted"; then return 0; fi
        sleep 0.1
    done
    echo "never seen: $wanted; but:"; "$@"; return 1
}
finish() {
    echo "$passed passed; $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
