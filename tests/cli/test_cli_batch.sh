# cento run --batch: the lines' format, results, going on after an interruption, bad lines, signals.
. "$(dirname "$0")/support.bash"

# results of a JSONL file as one JSON array in `out`-like files, for check
collect() {
    python3 - "$1" >"$2" <<'PYTHON'
import json, sys
text = open(sys.argv[1], encoding="utf-8").read()
assert text == "" or text.endswith("\n"), "the last line is not whole"
print(json.dumps([json.loads(line) for line in text.splitlines()]))
PYTHON
}

# five questions over three documents, each line with an id
questions() {
    python3 - "$notes" <<'PYTHON'
import json, sys
notes = sys.argv[1]
for number, (document, query) in enumerate([
    ("crystalton", "Where is Crystalton?"), ("vell", "Where does the Vell rise?"),
    ("crystalton", "What is Crystalton known for?"), ("ambleton", "Where is Ambleton?"),
    ("vell", "Where does the Vell rise?")]):
    print(json.dumps({"id": f"q{number}", "chunks": [{"file": f"{notes}/{document}.txt"}], "query": query}))
PYTHON
}

test_every_line_gets_the_answer_that_it_gets_alone() {
    questions >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl
    [ ! -s err ] || fail "err is not empty: $(head -c 300 err)"
    collect out answers
    check 'sorted(r["id"] for r in a) == ["q0", "q1", "q2", "q3", "q4"]' answers
    check 'all(set(r) == {"id", "line", "text", "finish_reason", "mode", "usage", "timing", "segments"} for r in a)' answers
    check 'all(r["line"] == int(r["id"][1]) + 1 for r in a)' answers
    expect 0 "$cento" run --json --chunk "@$notes/crystalton.txt" "What is Crystalton known for?"
    check '[r for r in b if r["id"] == "q2"][0]["text"] == a["text"]' out answers
    check '[r for r in b if r["id"] == "q2"][0]["usage"]["prompt_tokens"] == a["usage"]["prompt_tokens"]' out answers
    # equal requests have equal answers, and one of them found what the other computed
    check '[r["text"] for r in a if r["id"] == "q1"] == [r["text"] for r in a if r["id"] == "q4"]' answers
    check 'sum(r["usage"]["cached_tokens"] for r in a) > 100' answers
}

test_the_command_line_says_what_a_line_does_not() {
    cat >requests.jsonl <<'JSON'
{"id": 1, "query": "Where is Crystalton?"}
{"id": 2, "query": "Where is Crystalton?", "max_tokens": 3, "mode": "exact"}
{"id": 3, "query": "Where is Crystalton?", "chunks": [], "system": "Be brief.", "max_tokens": 1}
{"id": 4, "pieces": [{"kind": "query", "text": "What?"}], "max_tokens": 1}
JSON
    expect 0 "$cento" run --batch requests.jsonl --chunk "@$notes/crystalton.txt" --system "Answer." \
        --mode independent --max-tokens 20 --output results.jsonl
    [ ! -s out ]
    collect results.jsonl answers
    check '{r["id"]: r["mode"] for r in a} == {1: "independent", 2: "exact", 3: "independent", 4: "independent"}' answers
    check '{r["id"]: [s["kind"] for s in r["segments"] if s["kind"] != "template"] for r in a} ==
        {1: ["system", "context", "query"], 2: ["system", "context", "query"], 3: ["system", "query"], 4: ["query"]}' answers
    check '{r["id"]: r["usage"]["completion_tokens"] for r in a if r["id"] != 1} == {2: 3, 3: 1, 4: 1}' answers
}

test_pieces_of_all_kinds_and_sources_make_the_same_prompt() {
    expect 0 "$cento" tokenize --json "Where is Crystalton?"
    python3 - "$notes" >requests.jsonl <<'PYTHON'
import json, sys
tokens = json.load(open("out"))["tokens"]
path = sys.argv[1] + "/crystalton.txt"
text = open(path).read().rstrip("\n")
query = "Where is Crystalton?"
tool = {"type": "function", "function": {"name": "look_up"}}
lines = [
    {"system": "Answer.", "tools": [tool], "chunks": [text], "query": query},
    {"system": {"text": "Answer."}, "tools": [json.dumps(tool)], "chunks": [{"file": path, "label": "x"}], "query": {"tokens": tokens}},
    {"pieces": [{"kind": "system", "text": "Answer."}, {"kind": "tool", "text": json.dumps(tool)},
                {"kind": "context", "file": path}, {"kind": "query", "tokens": tokens}]},
]
for line in lines:
    print(json.dumps(line))
PYTHON
    expect 0 "$cento" run --batch - <requests.jsonl
    collect out answers
    check 'len(a) == 3 and sorted(r["line"] for r in a) == [1, 2, 3] and not any("id" in r for r in a)' answers
    check 'all([(s["kind"], s["content_id"]) for s in r["segments"]] == [(s["kind"], s["content_id"]) for s in a[0]["segments"]] for r in a)' answers
    check 'len({r["text"] for r in a}) == 1' answers
}

test_a_conversation_is_pieces_in_turn() {
    cat >requests.jsonl <<'JSON'
{"pieces": [{"kind": "query", "text": "Hello"}, {"kind": "output", "text": "Hello."}, {"kind": "query", "text": "Where?"}], "max_tokens": 2}
JSON
    expect 0 "$cento" run --batch requests.jsonl
    check '[s["kind"] for s in a["segments"] if s["kind"] != "template"] == ["query", "output", "query"]'
}

test_sampling_and_limits_of_a_line_are_taken() {
    cat >requests.jsonl <<'JSON'
{"id": "a", "query": "Where?", "temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "seed": 7, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.05, "logit_bias": {"5": -1}, "max_tokens": 12, "ignore_eos": true}
{"id": "b", "query": "Where?", "temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "seed": 7, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.05, "logit_bias": {"5": -1}, "max_tokens": 12, "ignore_eos": true}
{"id": "c", "query": "Where?", "logprobs": 2, "max_tokens": 4, "ignore_eos": true, "priority": 3}
{"id": "d", "query": "Where?", "logit_bias": {"77": 1000}, "stop_tokens": [77]}
{"id": "e", "raw": true, "chunks": ["Crystalton is"], "max_tokens": 4, "salt": "tenant", "stop": ["\u0000x", "zzz"], "anchored": null}
JSON
    sed -i 's/"\\u0000x", //' requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl
    collect out answers
    check '{r["id"] for r in a} == set("abcde")' answers
    check '[r["text"] for r in a if r["id"] == "a"] == [r["text"] for r in a if r["id"] == "b"]' answers
    check '[len(r["logprobs"]) for r in a if r["id"] == "c"] == [4] and all(len(t["top"]) == 2 for r in a if r["id"] == "c" for t in r["logprobs"])' answers
    check '[(r["text"], r["finish_reason"]) for r in a if r["id"] == "d"] == [("", "stop")]' answers
    check '[[s["kind"] for s in r["segments"]] for r in a if r["id"] == "e"] == [["context"]]' answers
}

# each with the number of its line, a code and a reason, and the good line among them answered
test_bad_lines_are_results_and_the_others_go_on() {
    cat >cases <<'CASES'
not JSON|not a JSON object
[1]|expected a JSON object, found an array
{"id": 1, "id": 2, "query": "x"}|duplicate
{"id": 1.5, "query": "x"}|'id' must be a string or a whole number
{"query": "x", "temprature": 1}|unknown key 'temprature'; did you mean 'temperature'?
{"query": "x", "temperature": "hot"}|'temperature' must be a number
{"query": "x", "temperature": -1}|'temperature' is -1, expected 0 to 100
{"query": "x", "top_k": -1}|'top_k' is -1
{"query": "x", "seed": -1}|'seed' is -1
{"query": "x", "mode": "fast"}|'mode' must be exact, independent or link:K, found 'fast'
{"query": "x", "anchored": true}|'anchored' goes with mode independent or link:K
{"query": "x", "retain": "all"}|'retain' must be none, answer or without-thinking
{"query": "x", "stop": [""]}|'stop' has a text that is empty
{"query": "x", "stop": 3}|'stop' must be a string or an array of strings
{"query": "x", "logit_bias": {"x": 1}}|'logit_bias' expects token ids
{"query": "x", "logprobs": 21}|'logprobs' is 21, expected 0 to 20
{"query": "x", "salt": "a\u0000b"}|'salt' has a NUL character
{"query": ""}|query: expected some text, found nothing
{"chunks": ["x"]}|'query' is missing
{"query": "x", "chunks": "y"}|'chunks' must be an array
{"query": "x", "chunks": [3]}|chunks[0]: expected a string or an object
{"query": "x", "chunks": [{"txt": "y"}]}|unknown key 'txt'; did you mean 'text'?
{"query": "x", "chunks": [{"text": "y", "file": "z"}]}|expected one of 'text', 'file', 'tokens' and 'chunk', found 2 of them
{"query": "x", "chunks": [{"label": "y"}]}|found 0 of them
{"query": "x", "chunks": [{"file": "no-such-file.txt"}]}|no-such-file.txt: cannot open
{"query": "x", "chunks": [{"file": "-"}]}|'file' must name a file
{"query": {"tokens": [1, -2]}}|expected token ids
{"query": {"tokens": [99999999]}}|99999999
{"pieces": []}|'pieces' must be an array of at least one piece
{"pieces": [{"text": "x"}]}|'kind' is missing
{"pieces": [{"kind": "document", "text": "x"}]}|'kind' must be system, tool, context, query or output, found 'document'
{"pieces": [{"kind": "query", "text": "x"}], "query": "y"}|'query' cannot stand beside 'pieces'
{"query": {"chunk": "0000000000000000000000000000000000000000000000000000000000000000"}}|0000
{"id": "twice", "query": "x", "max_tokens": 1}|
{"id": "twice", "query": "y"}|an earlier line has this id
CASES
    cut -d'|' -f1 cases >requests.jsonl
    expect 1 "$cento" run --batch requests.jsonl
    says err "34 of 35 requests failed"
    python3 - <<'PYTHON'
import json
results = {r["line"]: r for r in map(json.loads, open("out"))}
cases = [line.rstrip("\n").split("|") for line in open("cases")]
assert sorted(results) == list(range(1, len(cases) + 1)), sorted(results)
for number, (line, reason) in enumerate(cases, 1):
    result = results[number]
    if reason == "":
        assert "text" in result and "error" not in result, result
        continue
    error = result["error"]
    assert set(result) <= {"id", "line", "error"} and set(error) == {"code", "message"}, result
    assert reason in error["message"], (line, error)
    assert error["code"] in ("INVALID_ARGUMENT", "NOT_FOUND", "INVALID_MODEL"), error
assert results[25]["error"]["code"] == "NOT_FOUND" and results[33]["error"]["code"] == "NOT_FOUND"
assert results[35]["id"] == "twice"
PYTHON
}

test_blank_lines_are_counted_and_skipped_and_a_last_newline_may_lack() {
    printf '\xef\xbb\xbf{"query": "Where?", "max_tokens": 1}\r\n\n   \n{"query": "Who?", "max_tokens": 1}' >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl
    collect out answers
    check 'sorted(r["line"] for r in a) == [1, 4]' answers
    : >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl
    [ ! -s out ]
}

test_a_prompt_that_never_fits_fails_alone() {
    python3 -c 'import json
print(json.dumps({"id": "long", "query": "road " * 5000}))
print(json.dumps({"id": "short", "query": "Where?", "max_tokens": 2}))' >requests.jsonl
    expect 1 "$cento" run --batch requests.jsonl --context 256
    collect out answers
    check '{r["id"]: r.get("error", {}).get("code") for r in a} == {"long": "CONTEXT_FULL", "short": None}' answers
}

test_more_requests_than_may_wait_are_all_answered() {
    for number in $(seq 60); do echo "{\"id\": $number, \"query\": \"Where is $number?\", \"max_tokens\": 2}"; done >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl --max-waiting 3 --max-sequences 4
    collect out answers
    check 'sorted(r["id"] for r in a) == list(range(1, 61))' answers
}

test_resuming_asks_only_what_is_not_answered() {
    questions >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output whole.jsonl
    # two answers, an error and half a line, as a crash leaves them
    grep -E '"id":"(q1|q3)"' whole.jsonl >results.jsonl
    echo '{"id":"q2","line":3,"error":{"code":"IO","message":"x"}}' >>results.jsonl
    grep '"id":"q0"' whole.jsonl | head -c 100 >>results.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output results.jsonl --resume --stats
    says err "3 answered, 2 answered before"
    collect results.jsonl answers
    collect whole.jsonl expected
    check 'sorted(r["id"] for r in a) == ["q0", "q1", "q2", "q3", "q4"] and not any("error" in r for r in a)' answers
    check '{r["id"]: r["text"] for r in a} == {r["id"]: r["text"] for r in b}' answers expected
    # nothing is left to do, and nothing changes
    cp results.jsonl before.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output results.jsonl --resume
    cmp results.jsonl before.jsonl
    ls results.jsonl.* 2>/dev/null && fail "a temporary file was left behind"
    # a file that is not there yet is begun
    expect 0 "$cento" run --batch requests.jsonl --output new.jsonl --resume
    [ "$(wc -l <new.jsonl)" = 5 ]
}

test_lines_without_ids_resume_by_their_numbers() {
    printf '{"query": "Where is number %d?", "max_tokens": 2}\n' 1 2 3 4 >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output results.jsonl
    sed -i '/"line":3,/d' results.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output results.jsonl --resume --stats
    says err "1 answered, 3 answered before"
    collect results.jsonl answers
    check 'sorted(r["line"] for r in a) == [1, 2, 3, 4] and a[-1]["line"] == 3' answers
}

test_a_torn_end_is_repaired_wherever_it_is_torn() {
    printf '{"id": "first", "query": "Where?", "max_tokens": 1}\n{"id": "second", "query": "Who?", "max_tokens": 1}\n' >requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output whole.jsonl
    local bytes first
    bytes=$(wc -c <whole.jsonl) first=$(head -n 1 whole.jsonl | wc -c)
    for length in 1 $((first - 1)) "$first" $((first + 1)) $((first + 40)) $((bytes - 2)) $((bytes - 1)); do
        head -c "$length" whole.jsonl >results.jsonl
        expect 0 "$cento" run --batch requests.jsonl --output results.jsonl --resume
        collect results.jsonl answers
        check 'sorted(r["id"] for r in a) == ["first", "second"]' answers
    done
}

test_a_file_that_is_no_results_file_is_left_alone() {
    questions >requests.jsonl
    for text in '{"query": "x"}' 'some words' '{"id": "q0"}' '{"id": "q0", "text": 1}'; do
        printf '%s' "$text" >precious
        expect 1 "$cento" run --batch requests.jsonl --output precious --resume
        says err "precious: line 1 is no result of a batch"
        [ "$(cat precious)" = "$text" ]
    done
    expect 1 "$cento" run --batch requests.jsonl --output precious
    says err "precious is there already; --resume goes on with it"
    expect 2 "$cento" run --batch requests.jsonl --output requests.jsonl --resume
    says err "expected another file than that of --batch"
    expect 1 "$cento" run --batch requests.jsonl --output . --resume
    expect 1 "$cento" run --batch no-such-file.jsonl
    says err "no-such-file.jsonl: cannot open"
}

test_options_that_do_not_go_together_are_refused() {
    expect 2 "$cento" run --batch x.jsonl question
    says err "--batch: expected the questions in its file"
    expect 2 "$cento" run --output x question
    says err "--output goes with --batch FILE"
    expect 2 "$cento" run --resume question
    expect 2 "$cento" run --quiet question
    expect 2 "$cento" run --batch - --chunk -
    says err "both read standard input"
    questions >requests.jsonl
    expect 2 "$cento" run --batch requests.jsonl --resume
    says err "--resume goes with --output FILE"
}

# a pipe that stays open: results come as soon as they are there, so that later lines can build on them
test_results_come_while_lines_still_do() {
    mkfifo lines
    "$cento" run --batch - <lines >out 2>err &
    local run=$! status=0 output
    exec 3>lines
    printf '{"id": 1, "chunks": [{"file": "%s"}], "query": "Where is Crystalton?", "retain": "answer"}\n' \
        "$notes/crystalton.txt" >&3
    for _ in $(seq 600); do [ ! -s out ] || break; sleep 0.1; done
    [ "$(wc -l <out)" = 1 ] || fail "no result before the end of the lines"
    check 're.fullmatch("[0-9a-f]{64}", a["output_id"])'
    output=$(python3 -c 'import json; print(json.load(open("out"))["output_id"])')
    printf '{"id": 2, "pieces": [{"kind": "query", "text": "Where?"}, {"kind": "output", "chunk": "%s"}, ' "$output" >&3
    printf '{"kind": "query", "text": "Where is that?"}], "max_tokens": 1}' >&3
    exec 3>&-
    wait $run || status=$?
    [ "$status" = 0 ] || fail "exit status $status: $(head -c 300 err)"
    collect out answers
    check 'len(a) == 2 and [s["content_id"] for s in a[1]["segments"] if s["kind"] == "output"] == [a[0]["output_id"]]' answers
}

# interrupt SIGNAL STATUS: a batch of one short and one endless answer, ended by the signal after the first
interrupt() {
    printf '{"id": "short", "query": "Where?", "max_tokens": 1}\n{"id": "long", "query": "Who?", "max_tokens": 3900, "ignore_eos": true}\n{"id": "last", "query": "Why?", "max_tokens": 3900, "ignore_eos": true}\n' >requests.jsonl
    rm -f results.jsonl
    "$cento" run --batch requests.jsonl --output results.jsonl >out 2>err &
    local run=$! status=0
    for _ in $(seq 600); do [ ! -s results.jsonl ] || break; sleep 0.05; done
    kill "-$1" $run
    wait $run || status=$?
    [ "$status" = "$2" ] || fail "exit status $status, expected $2; $(head -c 300 err)"
    collect results.jsonl answers
    check '[r["id"] for r in a] == ["short"]' answers
    says err "interrupted after 1 answers; the same command with --resume goes on"
}

test_an_interrupted_batch_leaves_whole_results_and_can_go_on() {
    interrupt TERM 143
    interrupt INT 130
    sed -i 's/3900/2/' requests.jsonl
    expect 0 "$cento" run --batch requests.jsonl --output results.jsonl --resume
    collect results.jsonl answers
    check 'sorted(r["id"] for r in a) == ["last", "long", "short"]' answers
}

test_a_full_disk_and_a_reader_that_leaves_end_it() {
    questions >requests.jsonl
    expect 1 "$cento" run --batch requests.jsonl --output /dev/full
    says err "/dev/full: cannot write: No space left on device"
    "$cento" run --batch requests.jsonl >/dev/full 2>err && fail "a full disk went unnoticed"
    says err "standard output: No space left on device"
    "$cento" run --batch requests.jsonl 2>err | head -c 1 >first || true
    [ "$(wc -c <first)" = 1 ]
    lacks err "INTERNAL|Broken"
}

run_tests
