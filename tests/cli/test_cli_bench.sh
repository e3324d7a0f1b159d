# cento bench: the shape and arithmetic of the reports, on few questions and a small geometry.
. "$(dirname "$0")/support.bash"

test_the_report_counts_modes_documents_and_kinds() {
    local questions=10 kinds=3
    if sanitized; then questions=2 kinds=2; fi
    expect 0 "$cento" bench qa --limit $questions --json
    check 'set(a["modes"]) == {"exact", "independent"}'
    for mode in exact independent; do
        check "a[\"modes\"][\"$mode\"][\"questions\"] == $questions"
        check "abs(a[\"modes\"][\"$mode\"][\"accuracy\"] - a[\"modes\"][\"$mode\"][\"correct\"] / $questions) < 1e-6"
        check "all(0 <= x <= 1 for group in (\"by_documents\", \"by_kind\") for x in a[\"modes\"][\"$mode\"][group].values())"
        check "len(a[\"modes\"][\"$mode\"][\"by_documents\"]) >= $kinds and len(a[\"modes\"][\"$mode\"][\"by_kind\"]) >= $kinds"
        check "a[\"modes\"][\"$mode\"][\"computed_tokens\"] > 0"
    done
    check 'a["modes"]["exact"]["approximate_tokens"] == 0'
}

test_the_model_answers_nearly_all_right() {
    if sanitized; then
        return 0 # the same arithmetic, for minutes
    fi
    expect 0 "$cento" bench qa --limit 20 --json
    check 'a["modes"]["exact"]["correct"] >= 19 and a["modes"]["independent"]["correct"] >= 18'
}

# one question whose answer no model gives: the failure is shown
test_a_wrong_answer_is_counted_and_shown() {
    cat >questions.json <<'JSON'
{"version": 1, "system": "Answer from the documents.", "documents": ["Crystalton is a town. It lies in Wernmark."],
 "questions": [{"kind": "town", "documents": [0], "query": "Where is Crystalton?", "answer": "On the moon."},
               {"kind": "conversation", "documents": [0], "turns": [
                 {"query": "Where is Crystalton?", "answer": "Under the sea."}, {"query": "Why?", "answer": "So."}]}]}
JSON
    expect 0 "$cento" bench qa --questions questions.json --mode link:2 --failures 5 --json
    check 'a["modes"]["link:2"]["accuracy"] == 0 and a["modes"]["link:2"]["questions"] == 2'
    check '[f["expected"] for f in a["modes"]["link:2"]["failures"]] == ["On the moon.", "Under the sea."]'
    expect 0 "$cento" bench qa --questions questions.json --failures 1
    says out "On the moon."
    says out "0.00 %"
}

test_documents_of_questions_are_reused_in_independent_mode() {
    cat >questions.json <<'JSON'
{"version": 1, "system": "Answer from the documents.",
 "documents": ["Crystalton is a town. It lies in Wernmark.", "The Vell is a river. It flows into Lake Ferrow."],
 "questions": [{"kind": "town", "documents": [0, 1], "query": "Where is Crystalton?", "answer": "x"},
               {"kind": "town", "documents": [1, 0], "query": "Where is Crystalton?", "answer": "x"}]}
JSON
    expect 0 "$cento" bench qa --questions questions.json --mode independent --json
    check 'a["modes"]["independent"]["approximate_tokens"] > 20'
    check 'a["modes"]["independent"]["cached_tokens"] >= a["modes"]["independent"]["approximate_tokens"]'
}

test_bench_model_prints_fractions_and_what_they_are_of() {
    expect 0 "$cento" bench model --geometry tiny --prompt-tokens 64 --decode-tokens 4 --repetitions 1 --json
    check 'all(math.isfinite(a[k]) and a[k] > 0 for k in ("prefill_gemm_fraction", "decode_bandwidth_fraction",
        "prefill_tokens_per_s", "decode_tokens_per_s"))'
    check 'a["geometry"] == "tiny" and a["prompt_tokens"] == 64 and a["decode_tokens"] == 4'
    expect 2 "$cento" bench model --geometry enormous
    says err "enormous"
}

test_bench_attention_compares_shared_with_unshared() {
    expect 0 "$cento" bench attention --sequences 4 --shared-tokens 600 --own-tokens 20 --heads 8 --kv-heads 2 \
        --repetitions 1 --threads 1 --json
    check 'len(a["cases"]) == 1 and a["read_gb_s"] > 0 and a["fma_gflop_s"] > 0'
    check 'all(math.isfinite(a["cases"][0][k]) and a["cases"][0][k] > 0 for k in ("us", "us_unshared",
        "speedup_vs_unshared", "kv_gb_s", "kv_read_fraction", "gflop_s", "fma_fraction"))'
    check 'a["cases"][0]["sequences"] == 4 and a["cases"][0]["shared_tokens"] == 600
        and a["cases"][0]["own_tokens"] == 20 and a["cases"][0]["name"] == "4 share 600, 8/2 d64"'
    check 'a["cases"][0]["speedup_low"] <= a["cases"][0]["speedup_vs_unshared"] <= a["cases"][0]["speedup_high"]
        and a["cases"][0]["calls"] >= 61'
    check 'a["cases"][0]["tasks"] in (1, 2)' # 600 tokens are two cells, the second a small one
    expect 2 "$cento" bench attention --sequences 4 --heads 7 --kv-heads 2
    says err "7 query heads over 2 KV heads"
}

test_bench_attention_measures_a_grid_and_checks_each_case() {
    expect 0 "$cento" bench attention --device cpu --cases "S1 b1 128+32,S3 b32" --heads 8/1 --page 16 \
        --repetitions 1 --json
    check '[c["name"] for c in a["cases"]] == ["S1 b1 128+32 8/1 p16", "S3 b32 8k+8x512+32 8/1 p16"]'
    check 'a["wrong"] == 0 and a["copy_gb_s"] > 0 and all(0 <= c["error"] < 0.02 for c in a["cases"])'
    # distinct tokens: prefix and own; root, branches and own; K and V of one head of 128 in bf16
    check '[c["unique_bytes"] for c in a["cases"]]
        == [n * 2 * 128 * 2 for n in (128 + 32, 8192 + 8 * 512 + 32 * 32)]'
    check 'all(math.isfinite(c[k]) and c[k] > 0 for c in a["cases"]
        for k in ("us", "us_unshared", "speedup_vs_unshared", "floor_us", "share_of_copy", "tflop_s"))'
    expect 2 "$cento" bench attention --cases S9
    says err "no case fits"
    expect 0 "$cento" bench attention --list-cases cases.json --cases S1,S4,P --heads 32/8 --page 64
    says out "98 cases" # 90, 5 and 3
    python3 - <<'PYTHON' || fail "the list of cases is not what it should be"
import json
cases = {case["name"]: case for case in json.load(open("cases.json"))["cases"]}
one = cases["S1 b8 2k+256 32/8 p64"]
assert one["runs"] == [{"id": 0, "tokens": 2048}], one
assert one["sequences"] == [{"runs": [0], "own_tokens": 256, "new_rows": 1, "count": 8}], one
four = cases["S4 b64 4 of 16 x 1k+256 32/8 p64"]
assert sum(s["count"] for s in four["sequences"]) == 64 and len(four["runs"]) == 16
assert all(len(set(s["runs"])) == 4 for s in four["sequences"])
assert len({tuple(s["runs"]) for s in four["sequences"]}) > 32 # orders differ
PYTHON
}

# two runs of the same cases become one table: ratios, geometric means, the least
test_reports_of_others_are_set_beside_ours() {
    cat >ours.json <<'JSON'
{"device": "a GPU", "kv_dtype": "bf16", "copy_gb_s": 3000, "cases": [
 {"name": "S1 one", "family": "S1", "heads": 32, "kv_heads": 8, "rows": 8, "us": 10, "us_unshared": 20,
  "speedup_vs_unshared": 2, "unique_bytes": 7e7, "floor_us": 8, "share_of_copy": 0.8, "tflop_s": 1},
 {"name": "S1 two", "family": "S1", "heads": 32, "kv_heads": 8, "rows": 8, "us": 10, "us_unshared": 80,
  "speedup_vs_unshared": 8, "unique_bytes": 2e7, "floor_us": 5, "share_of_copy": 0.5, "tflop_s": 1},
 {"name": "S4 mix", "family": "S4", "heads": 32, "kv_heads": 8, "rows": 8, "us": 12.5, "unique_bytes": 2e7,
  "floor_us": 5, "share_of_copy": 0.4, "tflop_s": 1}]}
JSON
    cat >peers.json <<'JSON'
{"device": "a GPU", "flashinfer": "0.7", "copy_gb_s": 2990, "cases": [
 {"name": "S1 one", "us": {"decode": 90, "cascade_fa2": 5}}, {"name": "S1 two", "us": {"decode": 40, "cascade_fa2": null}},
 {"name": "S4 mix", "us": {"decode": 50}}]}
JSON
    expect 0 python3 "$sources/bench/peers/table.py" --ours ours.json --peers peers.json --details S4
    says out "device copy 2990 to 3000 GB/s. FlashInfer 0.7."
    # decode: 9 and 4 times; the fastest: 0.5 and 4 times
    says out "| S1: one prefix for all | 2 | 4.00 | 6.00 | 0.50 | 1.41 | 0.50 (S1 one) |"
    says out "| S4: compositions, random order | 1 | — | 4.00 | — | 4.00 | 4.00 (S4 mix) |"
    says out "| 64 MB and more, under 128 rows | 1 | 80 % |"
    says out "| S4 mix | 20 | 5.0 | 12.5 | 40 % | — | 50.0 | 1 |"
    printf 'before\n<!-- bench/peers/table.py: begin -->\nold\n<!-- bench/peers/table.py: end -->\nafter\n' >page.md
    expect 0 python3 "$sources/bench/peers/table.py" --ours ours.json --peers peers.json --write page.md
    says page.md "| S1: one prefix for all |"
    lacks page.md old
    says page.md after
    expect 1 python3 "$sources/bench/peers/table.py" --ours ours.json ours.json
    says err "was in a file before"
}

test_bench_plan_shows_growth() {
    expect 0 "$cento" bench plan --sequences 16 --chunks 4 --repetitions 3 --json
    check 'a["us_per_plan"] > 0 and a["us_per_plan_cold"] > 0 and a["views"] == 16 * 5'
    check '[s["sequences"] for s in a["by_sequences"]] == [4, 8, 16, 32]'
    check '[s["chunks"] for s in a["by_chunks"]] == [1, 2, 4, 8]'
    check 'all(s["views"] == s["sequences"] * (s["chunks"] + 1) for s in a["by_sequences"] + a["by_chunks"])'
    expect 2 "$cento" bench plan --chunks 0
}

test_bench_compose_counts_what_is_shared_and_that_answers_are_the_same() {
    expect 0 "$cento" bench compose --json --requests 6 --documents 4 --documents-per-request 2 \
        --document-tokens 64 --system-tokens 64 --agents 6 --turns 2 --project-tokens 256 --prefix-tokens 160 \
        --query-tokens 8 --new-tokens 6 --page-tokens 16
    check '[w["name"] for w in a["workloads"]] == ["rag", "rag-exact", "agents", "few-shot"]'
    # prompts: system, documents, question; project, questions and answers so far; prefix, question
    check '[w["prompt_tokens"] for w in a["workloads"]]
        == [6 * (64 + 2 * 64 + 8), 6 * (64 + 2 * 64 + 8), 6 * (2 * 256 + 8 + 8 + 6 + 8), 6 * (160 + 8)]'
    check '[w["requests"] for w in a["workloads"]] == [6, 6, 12, 6]'
    check 'all(w["completion_tokens"] == 6 * w["requests"] for w in a["workloads"])'
    check 'all(x["answers_differing"] == 0 and x["pool_holds_all"] for w in a["workloads"]
        for x in (w, w["cascade_off"], w["baseline"]))'
    check 'all(w["computed_tokens"] < 0.8 * w["baseline"]["computed_tokens"] for w in a["workloads"])'
    check 'all(w["baseline"]["computed_tokens"] >= w["prompt_tokens"] for w in a["workloads"])'
    check 'all(0 < w["memory_savings"] < 1 and w["kv_physical_bytes"] < w["kv_logical_bytes"] for w in a["workloads"])'
    check 'all(w["cascade_off"]["memory_savings"] > 0 for w in a["workloads"])'
    check 'all(0 < x["ttft_ms_p50"] <= x["ttft_ms_p99"] and x["tokens_per_s"] > 0 for w in a["workloads"]
        for x in (w, w["cascade_off"], w["baseline"]))'
    expect 0 "$cento" bench compose --workload few-shot --requests 2 --prefix-tokens 64 --new-tokens 2
    says out "few-shot"
    lacks out "agents"
    expect 0 "$cento" bench compose --geometry tiny --workload few-shot --requests 2 --prefix-tokens 64 \
        --new-tokens 2 --json
    check 'a["model"] == "tiny" and a["workloads"][0]["answers_differing"] == 0'
    expect 1 "$cento" bench compose --geometry enormous
    says err "enormous"
}

test_bench_throughput_answers_the_workload_and_says_where_time_goes() {
    expect 0 "$cento" bench throughput --device cpu --sequences 6 --lengths 5:20 --json
    # what Python's random draws: lengths and tokens of all prompts, then lengths of the answers
    python3 - >expected.json <<'PYTHON'
import json, random
random.seed(0)
prompts = [[random.randint(0, 3071) for _ in range(random.randint(5, 20))] for _ in range(6)]
answers = [random.randint(5, 20) for _ in range(6)]
print(json.dumps({"prompts": sum(map(len, prompts)), "answers": sum(answers), "longest": max(answers)}))
PYTHON
    check 'a["prompt_tokens"] == b["prompts"] and a["completion_tokens"] == b["answers"]' out expected.json
    check 'a["sequences"] == 6 and a["steps"] >= b["longest"] and a["preemptions"] == 0' out expected.json
    check 'all(a[k] > 0 for k in ("output_tokens_per_s", "prompt_tokens_per_s", "floor_s", "floor_share",
        "copy_gb_s", "ttft_ms_p50", "ttft_ms_p99", "weight_bytes_per_step", "kv_bytes"))'
    check 'abs(a["output_tokens_per_s"] * a["seconds"] - a["completion_tokens"]) < 1e-6 * a["completion_tokens"]'
    check 'all(a["ms_per_step"][k] >= 0 for k in ("schedule", "plan", "forward", "sample")) and
        abs(sum(v for k, v in a["ms_per_step"].items() if k != "step") - a["ms_per_step"]["step"]) <
        1e-6 * a["ms_per_step"]["step"]'
    expect 0 "$cento" bench throughput --device cpu --sequences 2 --lengths 3:4
    says out "tokens/s"
    expect 2 "$cento" bench throughput --lengths 20:5
    says err "--lengths: expected A:B"
    expect 1 "$cento" bench throughput --sequences 2 --lengths 4000:4000
    says err "the model's context is 4096"
}

test_bench_throughput_compares_workloads_with_and_without_reuse() {
    expect 0 "$cento" bench throughput --device cpu --workload few-shot --requests 3 --prefix-tokens 64 \
        --new-tokens 4 --json
    check 'len(a["workloads"]) == 1 and a["workloads"][0]["computed_tokens"] < a["workloads"][0]["baseline"]["computed_tokens"]'
    expect 0 "$cento" bench throughput --device cpu --workload few-shot --requests 3 --prefix-tokens 64 --new-tokens 4
    says out "reuse off, too"
    expect 2 "$cento" bench throughput --workload rags
}

test_bench_compose_says_what_does_not_fit() {
    expect 2 "$cento" bench compose --workload rags
    says err "expected rag, agents or few-shot, found 'rags'"
    expect 2 "$cento" bench compose --no-reuse
    expect 1 "$cento" bench compose --workload few-shot --prefix-tokens 100000
    says err "few-shot needs a context of"
    expect 1 "$cento" bench compose --documents 2
    says err "4 documents in a request, expected at most the 2"
    expect 0 "$cento" bench compose --workload few-shot --requests 6 --prefix-tokens 64 --new-tokens 2 --max-sequences 2
    says out "do not hold all requests"
}

test_damaged_question_files_are_refused_with_the_place() {
    while IFS='|' read -r text message; do
        printf '%s' "$text" >questions.json
        expect 1 "$cento" bench qa --questions questions.json
        says err "questions.json"
        says err "$message"
    done <<'CASES'
{|line 1
[]|expected an object
{"version": 2}|'version' is 2
{"version": 1, "documents": [], "questions": []}|'questions' not empty
{"version": 1, "documents": [3], "questions": [{}]}|documents[0] is not a string
{"version": 1, "documents": [], "questions": [{"kind": "a", "documents": [0], "query": "q", "answer": "a"}]}|no index of a document
{"version": 1, "documents": [], "questions": [{"kind": "a", "documents": [], "query": "q"}]}|'query' and 'answer'
{"version": 1, "documents": [], "questions": [{"kind": "a", "documents": [], "turns": []}]}|'turns' must be
CASES
}

run_tests
