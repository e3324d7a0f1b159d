# tools/make_random_model.py: the program opens and runs what it makes.
. "$(dirname "$0")/support.bash"

make="$sources/tools/make_random_model.py"

test_every_architecture_runs() {
    for geometry in tiny-qwen3 tiny-llama; do
        expect 0 python3 "$make" $geometry $geometry
        expect 0 "$cento" run --model $geometry --query "Where is Crystalton?" --max-tokens 8 --ignore-eos --json
        check 'a["usage"]["completion_tokens"] == 8 and len(a["text"]) > 0'
    done
    expect 0 "$cento" model tiny-llama --json
    # Llama 3.1's frequencies; 3200 tokens of 96 twice, and two layers
    check 'a["rope"] == "llama3" and a["vocab_size"] == 3200
        and a["parameters"] == 2 * 3200 * 96 + 96 + 2 * (2 * 96 + 96 * (96 + 2 * 32) + 96 * 96 + 3 * 96 * 224)'
}

# The beginnings of the answers of transformers 5.0.0 (AutoModelForCausalLM in float32, greedy, the prompt by its
# tokenizer and chat template) on the same folders.
test_answers_are_those_of_transformers() {
    while IFS='|' read -r geometry answer; do
        expect 0 python3 "$make" $geometry $geometry
        expect 0 "$cento" run --device cpu --compute-dtype f32 --model $geometry --max-tokens 24 --ignore-eos \
            --query "Where is Crystalton? It lies in Wernmark, by the river Vell."
        says out "$answer"
    done <<'CASES'
tiny-qwen3| travelog taste sch
tiny-llama| app CEKIarrot caramonuage SOFO spanuthoridedto NAJE afterrind liv map chalk Jan cake
CASES
}

test_a_seed_names_the_weights_and_shards_change_nothing() {
    expect 0 python3 "$make" tiny-qwen3 one --seed 3
    expect 0 python3 "$make" tiny-qwen3 same --seed 3
    expect 0 python3 "$make" tiny-qwen3 other --seed 4
    expect 0 python3 "$make" tiny-qwen3 sharded --seed 3 --shard-bytes 200000
    cmp one/model.safetensors same/model.safetensors || fail "the same seed gave other weights"
    if cmp -s one/model.safetensors other/model.safetensors; then fail "another seed gave the same weights"; fi
    [ -f sharded/model-00002-of-00003.safetensors ] || fail "expected three shards: $(ls sharded)"
    for folder in one sharded; do
        expect 0 "$cento" run --model $folder --query "Where is Crystalton?" --max-tokens 8 --ignore-eos
        cp out answer_$folder
    done
    cmp answer_one answer_sharded || fail "shards change the answer"
}

test_published_sizes_are_listed() {
    expect 0 python3 "$make" --list
    says out "llama-3.1-8b      8030.3 M"
    says out "qwen3-8b          8190.7 M"
    says out "llama-3.2-1b      1235.8 M"
    says out "qwen3-0.6b         596.0 M"
}

test_what_cannot_be_made_is_said() {
    expect 2 python3 "$make" enormous folder
    says err "geometry 'enormous': expected one of qwen3-0.6b"
    expect 2 python3 "$make" tiny-qwen3
    says err "expected the folder"
    mkdir there
    expect 2 python3 "$make" tiny-qwen3 there
    says err "there: exists already"
    expect 2 python3 "$make" tiny-qwen3 folder --shard-bytes 0
    expect 1 python3 "$make" tiny-qwen3 /dev/null/folder
    says err "Not a directory"
}

run_tests
