# cento run on the default model: the shape of its JSON, the accounting, and that reuse really happens.
. "$(dirname "$0")/support.bash"

system="Answer from the documents."
documents=(--chunk "@$notes/crystalton.txt" --chunk "@$notes/vell.txt" --chunk "@$notes/ambleton.txt")
reversed=(--chunk "@$notes/ambleton.txt" --chunk "@$notes/vell.txt" --chunk "@$notes/crystalton.txt")

test_json_has_the_documented_shape() {
    expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "Where is Crystalton?"
    check 'set(a) == {"text", "finish_reason", "mode", "usage", "timing", "segments"}'
    check 'set(a["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens", "exact_tokens",
        "approximate_tokens", "recomputed_tokens", "computed_tokens", "retained_tokens_computed", "preemptions"}'
    check 'all(type(n) is int and n >= 0 for n in a["usage"].values())'
    check 'set(a["timing"]) == {"load_ms", "queue_ms", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s"}'
    check 'all(isinstance(t, (int, float)) and math.isfinite(t) and t >= 0 for t in a["timing"].values())'
    check 'a["timing"]["load_ms"] > 0 and a["timing"]["ttft_ms"] > 0'
    check 'a["mode"] == "exact" and a["finish_reason"] == "stop" and type(a["text"]) is str'
    check 'all(set(s) == {"kind", "content_id", "tokens", "offset", "cached_tokens", "source"} for s in a["segments"])'
    check 'all(s["source"] in ("computed", "exact", "approximate") for s in a["segments"])'
    check 'all(re.fullmatch("[0-9a-f]{64}", s["content_id"]) for s in a["segments"])'
}

test_segments_tile_the_prompt_in_order() {
    expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "Where is Crystalton?"
    check 'a["segments"][0]["offset"] == 0'
    check 'all(s["offset"] + s["tokens"] == t["offset"] for s, t in zip(a["segments"], a["segments"][1:]))'
    check 'sum(s["tokens"] for s in a["segments"]) == a["usage"]["prompt_tokens"]'
    check '[s["kind"] for s in a["segments"] if s["kind"] != "template"]
        == ["system", "context", "context", "context", "query"]'
}

test_a_cold_prompt_is_computed_whole_and_nothing_is_reused() {
    expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "Where is Crystalton?"
    check 'a["usage"]["cached_tokens"] == 0 and a["usage"]["exact_tokens"] == 0'
    check 'a["usage"]["computed_tokens"] >= a["usage"]["prompt_tokens"]'
}

test_queries_asked_together_are_shown_in_their_order() {
    local queries=("Where is Crystalton?" "Who is the mayor of Crystalton?" "Which fish is the Vell rich in?"
        "Where is Ambleton?" "Where does the Vell rise?")
    expect 0 "$cento" run "${documents[@]}" "${queries[@]}"
    mv out together
    for query in "${queries[@]}"; do
        expect 0 "$cento" run "${documents[@]}" "$query"
        cat out >>alone
    done
    cmp together alone
    expect 0 "$cento" run --json "${documents[@]}" "${queries[@]}"
    check 'len(a) == 5 and all(r["usage"]["exact_tokens"] > 0.8 * r["usage"]["prompt_tokens"] for r in a[1:])'
    # one that cannot be asked ends it, after the answers before it
    python3 -c 'print("road " * 6000)' >long.txt
    expect 1 "$cento" run "${documents[@]}" --query "${queries[0]}" --query @long.txt \
        --query "${queries[1]}"
    cmp <(head -n 1 together) out
}

# answers of a, a list: invariants of every usage
check_accounting() {
    check 'all(u["cached_tokens"] == u["exact_tokens"] + u["approximate_tokens"] for u in
        [r["usage"] for r in a])'
    check 'all(u["cached_tokens"] <= u["prompt_tokens"] for u in [r["usage"] for r in a])'
}

test_a_second_query_reuses_the_documents_exactly() {
    expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "Where is Crystalton?" \
        --query "What is Crystalton known for?"
    check 'type(a) is list and len(a) == 2'
    check_accounting
    check 'a[0]["usage"]["cached_tokens"] == 0'
    check 'a[1]["usage"]["exact_tokens"] > 0.8 * a[1]["usage"]["prompt_tokens"]'
    check 'a[1]["usage"]["approximate_tokens"] == 0'
    check 'a[1]["usage"]["computed_tokens"] < 0.4 * a[0]["usage"]["computed_tokens"]'
    check 'all(s["source"] == "exact" for s in a[1]["segments"] if s["kind"] == "context")'
    check '[s["content_id"] for s in a[0]["segments"] if s["kind"] == "context"]
        == [s["content_id"] for s in a[1]["segments"] if s["kind"] == "context"]'
}

test_reuse_changes_no_exact_answer() {
    expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "Where is Crystalton?" \
        --query "Who is the mayor of Crystalton?" --query "Which fish is the Vell rich in?"
    mv out warm
    for number in 0 1 2; do
        local query
        query=$(printf 'Where is Crystalton?\nWho is the mayor of Crystalton?\nWhich fish is the Vell rich in?\n' |
            sed -n "$((number + 1))p")
        expect 0 "$cento" run --json --system "$system" "${documents[@]}" --query "$query"
        check "a[\"text\"] == b[$number][\"text\"]" out warm
        check "$number == 0 or b[$number][\"usage\"][\"cached_tokens\"] > 0" out warm
    done
}

# asks through the chat in one process: the documents in one order, then in the other
reordered() {
    printf '%s\n' "/mode $1" "/context @$notes/crystalton.txt" "/context @$notes/vell.txt" \
        "Where is Crystalton?" "/clear" "/clear context" "/context @$notes/vell.txt" \
        "/context @$notes/crystalton.txt" "Where is Crystalton?"
}

test_documents_in_another_order_are_reused_in_independent_mode() {
    reordered independent | expect 0 "$cento" chat --system "$system" --stats
    # the summary lines: "N prompt tokens, N reused (N approximate); …"
    python3 - <<'PYTHON'
import re
lines = [line for line in open("err") if "prompt tokens" in line]
numbers = [[int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", line)[:2]] for line in lines]
(cold_prompt, _), (warm_prompt, warm_reused) = numbers
assert warm_prompt == cold_prompt, numbers
assert warm_reused > 0.8 * warm_prompt, numbers
assert "approximate" in lines[1], lines
PYTHON
    [ "$(sed -n 1p out)" = "$(sed -n 2p out)" ]
}

test_independent_and_link_say_what_they_did() {
    for mode in independent link:4; do
        expect 0 "$cento" run --json --mode $mode --system "$system" "${documents[@]}" \
            --query "Where is Crystalton?" --query "What is Crystalton known for?"
        check "all(r[\"mode\"] == \"$mode\" for r in a)"
        check_accounting
        check 'a[1]["usage"]["approximate_tokens"] > 0'
        check 'a[1]["usage"]["computed_tokens"] < 0.4 * a[0]["usage"]["computed_tokens"]'
    done
    check 'a[1]["usage"]["recomputed_tokens"] == 3 * 4'
    expect 0 "$cento" run --json --mode independent --anchored --system "$system" "${documents[@]}" \
        --query "Where is Crystalton?"
    check 'a["mode"] == "independent"'
}

test_different_salts_and_one_salt_give_the_same_answer() {
    expect 0 "$cento" run --json "${documents[@]}" --query "Where is Crystalton?"
    mv out plain
    expect 0 "$cento" run --json --salt tenant "${documents[@]}" --query "Where is Crystalton?"
    check 'a["text"] == b["text"]' out plain
}

test_a_prompt_longer_than_the_context_is_refused_with_the_numbers() {
    for number in $(seq 400); do echo "The road number $number is long."; done >long.txt
    expect 1 "$cento" run --context 256 --chunk @long.txt "How long is the road?"
    says err "256"
    [ ! -s out ] || fail "out is not empty: $(head -c 300 out)"
    expect 1 "$cento" run --json --context 256 --chunk @long.txt "How long is the road?"
    [ ! -s out ] || fail "out is not empty: $(head -c 300 out)"
}

test_texts_come_from_files_standard_input_and_literally() {
    expect 0 "$cento" run --json --chunk "@$notes/crystalton.txt" "Where is Crystalton?"
    mv out file
    expect 0 "$cento" run --json --chunk - "Where is Crystalton?" <"$notes/crystalton.txt"
    check 'a["segments"] == b["segments"] and a["text"] == b["text"]' out file
    expect 0 "$cento" run --json --chunk "$(cat "$notes/crystalton.txt")" "Where is Crystalton?"
    check 'a["segments"] == b["segments"]' out file
    expect 0 "$cento" run --json --chunk "@@file" --max-tokens 1 "What?"
    mv out at
    expect 0 "$cento" run --json --raw --chunk "@file" --max-tokens 1 "What?"
    check 'a["segments"] != b["segments"]' out at
}

test_streamed_text_is_the_json_text() {
    expect 0 "$cento" run --json "${documents[@]}" "Where is Crystalton?"
    mv out json
    expect 0 "$cento" run "${documents[@]}" "Where is Crystalton?"
    [ "$(cat out)" = "$(python3 -c 'import json; print(json.load(open("json"))["text"])')" ]
    [ ! -s err ] || fail "err is not empty: $(head -c 300 err)"
    expect 0 "$cento" run --stats "${documents[@]}" "Where is Crystalton?"
    says err "first token"
}

test_limits_stops_and_sampling_work() {
    expect 0 "$cento" run --json --max-tokens 2 "${documents[@]}" "Where is Crystalton?"
    check 'a["finish_reason"] == "length" and a["usage"]["completion_tokens"] == 2'
    expect 0 "$cento" run --json --max-tokens 40 --ignore-eos "${documents[@]}" "Where is Crystalton?"
    check 'a["usage"]["completion_tokens"] == 40'
    expect 0 "$cento" run --json "${documents[@]}" "Where is Crystalton?"
    local word
    word=$(python3 -c 'import json; print(json.load(open("out"))["text"].split()[1])')
    expect 0 "$cento" run --json --stop "$word" "${documents[@]}" "Where is Crystalton?"
    check "a[\"finish_reason\"] == \"stop\" and \"$word\" not in a[\"text\"]"
    local sampling=(--temperature 1.5 --top-k 50 --top-p 0.95 --min-p 0.01 --presence-penalty 0.1
        --frequency-penalty 0.1 --repetition-penalty 1.05 --logit-bias 5=-1 --max-tokens 12)
    expect 0 "$cento" run --json "${sampling[@]}" --seed 7 "${documents[@]}" "Where is Crystalton?"
    mv out first
    expect 0 "$cento" run --json "${sampling[@]}" --seed 7 "${documents[@]}" "Where is Crystalton?"
    check 'a["text"] == b["text"]' out first
}

test_logprobs_are_log_probabilities_in_order() {
    expect 0 "$cento" run --json --logprobs 3 "${documents[@]}" "Where is Crystalton?"
    check 'len(a["logprobs"]) == a["usage"]["completion_tokens"] or
        len(a["logprobs"]) == a["usage"]["completion_tokens"] - 1'
    check 'all(len(t["top"]) == 3 and t["logprob"] <= 0 for t in a["logprobs"])'
    # greedy: the chosen token is the likeliest
    check 'all(t["token"] == t["top"][0]["token"] for t in a["logprobs"])'
    check 'all(x["logprob"] >= y["logprob"] for t in a["logprobs"] for x, y in zip(t["top"], t["top"][1:]))'
    check 'all(sum(math.exp(x["logprob"]) for x in t["top"]) <= 1.0001 for t in a["logprobs"])'
    check '"".join(t["text"] for t in a["logprobs"]) == a["text"]'
}

test_raw_pieces_are_joined_without_a_template() {
    expect 0 "$cento" run --json --raw --max-tokens 4 --chunk "Crystalton is" " an old"
    check '[s["kind"] for s in a["segments"]] == ["context", "query"]'
    expect 0 "$cento" run --json --raw --max-tokens 4 --chunk "Crystalton is"
    check '[s["kind"] for s in a["segments"]] == ["context"]'
}

test_settings_of_the_engine_are_taken() {
    for setting in "--page-tokens 16" "--page-tokens 64" "--threads 1" "--compute-dtype f32" \
        "--context 1024 --kv-pool-tokens 4096" "--kv-dtype f32" "--no-cascade" "--cascade-levels 2" "--no-reuse" \
        "--deterministic" "--max-sequences 2 --max-batched-tokens 64 --max-waiting 2" \
        "--chunk-page-ratio 0.8 --no-chunk-page-borrow --chunk-registry-size 8 --chunk-bytes-max 1M"; do
        expect 0 "$cento" run --json $setting "${documents[@]}" "Where is Crystalton?"
        check 'len(a["text"]) > 0'
    done
}

test_a_reader_that_leaves_and_a_full_disk_end_it() {
    "$cento" run "${documents[@]}" "Where is Crystalton?" 2>err | head -c 1 >first || true
    [ "$(wc -c <first)" = 1 ]
    [ ! -s err ] || fail "err is not empty: $(head -c 300 err)"
    "$cento" run "${documents[@]}" "Where is Crystalton?" >/dev/full 2>err && fail "a full disk went unnoticed"
    says err "standard output: No space left on device"
    "$cento" run --json "${documents[@]}" "Where is Crystalton?" >/dev/full 2>err && fail "a full disk went unnoticed"
    says err "standard output: No space left on device"
}

run_tests
