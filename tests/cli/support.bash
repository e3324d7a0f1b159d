# What the command line's tests share. Each test is a function named test_…, run in a folder of its own;
# run_tests prints one line for each in cmocka's form, which scripts/count-tests reads.
set -uo pipefail

cento=${CENTO_BINARY:?the program under test}
sources=${CENTO_SOURCE_DIR:?the source tree}
notes=$sources/examples/notes

# Threads that wait by spinning starve those that work when tests share the cores.
export OMP_WAIT_POLICY=passive

fail() {
    echo "    $*" >&2
    return 1
}

# expect STATUS COMMAND…: runs it into the files out and err
expect() {
    local expected=$1 status=0
    shift
    "$@" >out 2>err || status=$?
    [ "$status" -eq "$expected" ] || fail "$*: exit status $status, expected $expected; $(head -c 600 err)"
}

# says FILE TEXT: the file contains the text
says() {
    grep -qF -- "$2" "$1" || fail "$1 lacks '$2': $(head -c 600 "$1")"
}

# lacks FILE PATTERN: no line of the file matches
lacks() {
    if grep -qE -- "$2" "$1"; then fail "$1 has '$2': $(head -c 600 "$1")"; fi
}

# check EXPRESSION [FILE…]: a Python expression over the JSON values a, b, … of the files (default: out)
check() {
    local expression=$1
    shift
    python3 - "$expression" "${@:-out}" <<'PYTHON' || fail "check failed: $expression"
import json, math, re, sys
values = []
for name in sys.argv[2:]:
    with open(name, encoding="utf-8") as file:
        values.append(json.load(file))
names = dict(zip("abcdef", values))
if not eval("(" + sys.argv[1] + ")", {"math": math, "re": re, **names}):
    for name, value in names.items():
        print(f"    {name} = {json.dumps(value)[:1500]}", file=sys.stderr)
    sys.exit(1)
PYTHON
}

# true when the program is built with sanitizers: an order of magnitude slower
sanitized() {
    ! grep -q '^CENTO_SANITIZE:STRING=$' "$(dirname "$cento")/CMakeCache.txt"
}

run_tests() {
    local name folder failed=0
    for name in $(compgen -A function test_); do
        folder=$(mktemp -d)
        # not as a condition: there, set -e would not stop at a failed check
        (set -e; cd "$folder"; "$name")
        if [ $? -eq 0 ]; then
            echo "[       OK ] $name"
        else
            echo "[  FAILED  ] $name"
            failed=1
        fi
        rm -rf "$folder"
    done
    exit $failed
}
