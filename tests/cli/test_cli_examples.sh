# The example programs, the demo's table, and what cmake --install puts down.
. "$(dirname "$0")/support.bash"

build=$(dirname "$cento")
model=${CENTO_MODEL:-$sources/models/cento-tiny}

test_the_smallest_program_answers() {
    expect 0 "$build/examples/minimal" "$model"
    says out "Wernmark"
    expect 1 "$build/examples/minimal" /nonexistent
    says err "/nonexistent"
}

test_the_demo_reuses_documents_in_another_order_and_for_another_question() {
    expect 0 "$build/examples/compose" "$model" "$notes"/*.txt
    python3 - <<'PYTHON'
import re
lines = open("out").read().splitlines()
rows = [[int(n) for n in re.findall(r"\d+", line)[:3]] for line in lines[1::2]]
answers = [line.strip() for line in lines[2::2]]
(prompt, reused, computed), (prompt_2, reused_2, computed_2), (_, reused_3, computed_3) = rows
assert reused == 0 and computed >= prompt, rows
assert prompt_2 == prompt and reused_2 > 0.8 * prompt and computed_2 < 0.3 * computed, rows
assert reused_3 > 0.8 * prompt and computed_3 < 0.3 * computed, rows
assert answers[0] == answers[1] and "Wernmark" in answers[0] and "glass" in answers[2], answers
PYTHON
    expect 2 "$build/examples/compose"
    expect 1 "$build/examples/compose" "$model" /nonexistent
}

test_a_batch_shares_the_document() {
    expect 0 "$build/examples/batch" "$model" "$notes/crystalton.txt" "Where is Crystalton?" \
        "What is Crystalton known for?" "Who is the mayor of Crystalton?"
    says out "Wernmark"
    says out "glass"
    python3 - <<'PYTHON'
import re
there, prompts, saved = map(int, re.findall(r"\d+", open("out").read().splitlines()[-1]))
assert there > 0.4 * prompts and saved > 0, (there, prompts, saved)
PYTHON
    expect 1 "$build/examples/batch" "$model" /nonexistent "Who?"
    expect 2 "$build/examples/batch"
}

test_two_answers_are_streamed_at_once() {
    expect 0 "$build/examples/stream" "$model" "Where is Crystalton?" "What river does Crystalton stand on?"
    python3 - <<'PYTHON'
lines = open("out").read().split("\n")
results = {line[0]: line[3:].split(" (stop")[0] for line in lines if line[1:3] == ": "}
streamed = {name: "".join(line[3:] for line in lines if line.startswith(name + "| ")) for name in "12"}
assert results == streamed and "Wernmark" in results["1"] and "Vell" in results["2"], (results, streamed)
PYTHON
    expect 2 "$build/examples/stream"
    expect 1 "$build/examples/stream" /nonexistent a b
}

test_chunks_are_previewed_pinned_retained_and_removed() {
    expect 0 "$build/examples/chunks" "$model"
    says out "23 are there"
    says out "Wernmark"
    says out "Vell"
    says out "1 pins"
    says out "goes in 3600 s"
    expect 1 "$build/examples/chunks" /nonexistent
}

test_tokens_are_shown_without_an_engine() {
    expect 0 "$build/examples/tokens" "$model" "Where is Crystalton?"
    says out "tokens: Where is Crystalton?"
    says out '"architecture": "Qwen3ForCausalLM"'
    expect 1 "$build/examples/tokens" /nonexistent a
    expect 2 "$build/examples/tokens"
}

test_the_demo_script_refuses_unknown_arguments() {
    expect 2 "$sources/scripts/demo" --frobnicate
    expect 0 "$sources/scripts/demo" --help
}

test_an_installed_cento_runs_and_can_be_linked() {
    if sanitized; then
        return 0 # such a library needs its runtime in every program
    fi
    cmake --install "$build" --prefix "$PWD/prefix" >/dev/null
    [ -z "${CENTO_MODEL:-}" ] || { mkdir -p prefix/share/cento/models && cp -r "$CENTO_MODEL" prefix/share/cento/models/; }
    local flags
    flags=$(PKG_CONFIG_PATH=$(dirname "$(find "$PWD/prefix" -name cento.pc)") pkg-config --cflags --libs cento)
    gcc -o minimal "$sources/examples/minimal.c" $flags
    expect 0 ./minimal prefix/share/cento/models/cento-tiny
    says out "Wernmark"
    expect 0 env -u CENTO_MODEL prefix/bin/cento run --chunk "@$notes/crystalton.txt" "Where is Crystalton?"
    says out "Wernmark"
}

run_tests
