# Every example of docs/cli.md (its ```sh blocks) runs as it stands in the source tree.
. "$(dirname "$0")/support.bash"

test_every_example_of_the_documentation_runs() {
    # one file for each command: a block's lines, joined where a backslash ends them
    python3 - "$sources/docs/cli.md" <<'PYTHON'
import re, sys
blocks = re.findall(r"^```sh\n(.*?)^```", open(sys.argv[1], encoding="utf-8").read(), re.M | re.S)
commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
assert len(commands) >= 8, commands
for number, command in enumerate(commands):
    open(f"example-{number:02}.sh", "w", encoding="utf-8").write(command + "\n")
PYTHON
    local folder=$PWD example
    for example in "$folder"/example-*.sh; do
        (cd "$sources" && PATH=$(dirname "$cento"):$PATH bash -e -o pipefail "$example") >out 2>err ||
            fail "$(cat "$example"): $(head -c 600 err)"
        [ -s out ] || fail "$(cat "$example"): printed nothing"
        lacks err "^cento:"
    done
}

run_tests
