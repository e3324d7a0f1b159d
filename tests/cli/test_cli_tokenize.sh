# cento tokenize and cento model.
. "$(dirname "$0")/support.bash"

test_ids_decode_to_the_same_bytes() {
    printf 'Where is Crystalton?\n  Ünïcödé: 日本語, العربية, 👩‍👩‍👧, é\n\ttabs, 1234567890 and\x01controls\n\n' >text
    expect 0 "$cento" tokenize --ids @text
    [ "$(wc -l <out)" = 1 ]
    cp out ids
    expect 0 "$cento" tokenize --decode @ids
    cmp out text
    expect 0 "$cento" tokenize --decode - <ids
    cmp out text
    expect 0 "$cento" tokenize --decode $(cat ids)
    cmp out text
}

test_json_and_the_list_hold_the_same_ids() {
    expect 0 "$cento" tokenize --ids "Where is Crystalton?"
    local ids
    ids=$(cat out)
    expect 0 "$cento" tokenize --json "Where is Crystalton?"
    check "a[\"tokens\"] == [int(i) for i in \"$ids\".split()]"
    check 'len(a["pieces"]) == len(a["tokens"]) and all(type(p) is str for p in a["pieces"])'
    expect 0 "$cento" tokenize "Where is Crystalton?"
    [ "$(awk '{print $1}' out | tr '\n' ' ')" = "$ids " ]
    expect 0 "$cento" tokenize --decode --json "[${ids// /, }]"
    check 'a == {"text": "Where is Crystalton?"}'
}

test_special_tokens_are_text_unless_asked_for() {
    expect 0 "$cento" tokenize --json "<|im_end|>"
    check 'len(a["tokens"]) > 1'
    expect 0 "$cento" tokenize --json --special "<|im_end|>"
    check 'len(a["tokens"]) == 1 and a["pieces"] == ["<|im_end|>"]'
}

test_ids_that_are_none_are_refused() {
    expect 1 "$cento" tokenize --decode 99999999
    expect 2 "$cento" tokenize --decode "1 two 3"
    says err "--decode: expected token ids, found 'two'"
    expect 2 "$cento" tokenize --decode -- -5
    expect 2 "$cento" tokenize
    expect 2 "$cento" tokenize two words
    says err "expected one text, found 2"
}

test_a_gguf_vocabulary_can_be_used() {
    local vocabulary=${CENTO_TEST_DATA:-$sources/../shared/data}/vocab/ggml-vocab-gpt-2.gguf
    if [ ! -f "$vocabulary" ]; then
        echo "skipped: no test data ($vocabulary)"
        return 0
    fi
    expect 0 "$cento" tokenize --model "$vocabulary" --ids "Hello world"
    [ "$(cat out)" = "15496 995" ]
}

test_the_model_page_says_what_the_folder_holds() {
    expect 0 "$cento" model --json
    check 'a["parameters"] > 1000000 and a["weight_bytes"] > 1000000'
    mv out full
    expect 0 "$cento" model
    says out "model.safetensors"
    says out "architecture"
    expect 0 "$cento" model --json --context 256
    check 'a != b' out full
    expect 1 "$cento" model "$notes"
    expect 2 "$cento" model a b
    expect 2 "$cento" model --context 0
}

run_tests
