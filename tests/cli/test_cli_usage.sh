# Bad input: each a message that says what was wrong and what was expected, exit status 2 for the command
# line and 1 for everything else.
. "$(dirname "$0")/support.bash"

test_help_and_version_succeed_and_print_to_standard_output() {
    for command in run chat serve tokenize model bench "bench qa" "bench compose"; do
        expect 0 "$cento" help $command
        says out "usage: cento $command"
        [ ! -s err ]
    done
    expect 0 "$cento" run --top-p 0.5 --help
    expect 0 "$cento" --version
    grep -qxE 'cento [0-9]+\.[0-9]+\.[0-9]+' out
    expect 0 "$cento" --help
    for command in run chat serve tokenize model bench; do says out "  $command"; done
    expect 2 "$cento"
}

test_every_option_is_on_the_help_page() {
    expect 0 "$cento" help run
    for option in system chunk tool query mode anchored max-tokens temperature top-k top-p min-p \
        repetition-penalty presence-penalty frequency-penalty logit-bias seed stop stop-token ignore-eos \
        logprobs raw salt json stats threads compute-dtype context kv-pool-tokens page-tokens model \
        kv-dtype max-sequences max-batched-tokens max-waiting no-cascade cascade-levels no-reuse deterministic \
        chunk-page-ratio no-chunk-page-borrow chunk-registry-size chunk-bytes-max batch output resume quiet device attention \
        gpu-memory-utilization; do
        says out "--$option"
    done
}

test_unknown_words_are_usage_errors_with_a_suggestion() {
    expect 2 "$cento" rnu
    says err "did you mean 'run'"
    expect 2 "$cento" help rnu
    expect 2 "$cento" run --chunks x q
    says err "unknown option --chunks; did you mean --chunk?"
    says err "usage: cento run"
    expect 2 "$cento" run --frobnicate q
    says err "unknown option --frobnicate"
    lacks err "did you mean"
    expect 2 "$cento" bench qb
    says err "did you mean 'qa'"
    expect 2 "$cento" run -q question
    says err "two dashes"
}

test_values_are_checked_with_what_was_expected() {
    while IFS='|' read -r option value expected; do
        expect 2 "$cento" run "$option" "$value" question
        says err "cento: $option: expected $expected"
        says err "$value"
        expect 2 "$cento" run "$option=$value" question
    done <<'CASES'
--top-p|x|a number from 0 to 1, found
--top-p|1.5|a number from 0 to 1, found
--top-p|nan|a number from 0 to 1, found
--min-p|-0.1|a number from 0 to 1, found
--temperature|inf|a number from 0 to 100, found
--temperature|0x1|a number from 0 to 100, found
--top-k|-1|a whole number, 0 or more, found
--max-tokens|3.5|a whole number, 0 or more, found
--max-tokens|99999999999|a whole number, 0 or more, found
--threads|0|a whole number from 1 to 4096, found
--page-tokens|20|16, 32 or 64, found
--compute-dtype|f16|bf16|
--kv-dtype|f16|auto|
--gpu-memory-utilization|1.5|a number from 0.01 to 1, found
--max-sequences|0|a whole number from 1 to 4096, found
--cascade-levels|4|a whole number from 1 to 3, found
--chunk-page-ratio|0|a number from 0.01 to 0.99, found
--chunk-registry-size|0|a whole number from 1 to
--chunk-bytes-max|0|a number of bytes, 1 or more, as in 100000, 64M or 2G, found
--chunk-bytes-max|12Q|a number of bytes
--chunk-bytes-max|1MB|a number of bytes
--chunk-bytes-max|99999999999999T|a number of bytes
--mode|link|exact, independent or link:K, found
--mode|link:x|exact, independent or link:K, found
--seed|18446744073709551616|a whole number
--logit-bias|5|a token id, =, and a number
--logit-bias|x=1|a token id, =, and a number
--logit-bias|5=many|a token id, =, and a number
--stop-token|x|a token id, found
CASES
}

test_a_missing_or_swallowed_value_is_noticed() {
    expect 2 "$cento" run --query
    says err "--query: expected TEXT"
    expect 2 "$cento" run --model --json question
    says err "found the option --json"
    expect 2 "$cento" run --json=3 question
    says err "--json takes no value"
    expect 2 "$cento" run
    says err "expected a question"
    expect 2 "$cento" run --anchored question
    says err "--anchored goes with"
    expect 2 "$cento" run --logprobs 2 question
    says err "--logprobs needs --json"
}

test_a_double_dash_ends_the_options() {
    expect 1 "$cento" run --model /nonexistent -- --query
    says err "/nonexistent"
}

test_missing_files_are_named() {
    expect 1 "$cento" run --chunk @no-such-file.txt question
    says err "no-such-file.txt: cannot open: No such file"
    expect 1 "$cento" run --chunk @. question
    says err "expected a file, found a folder"
    expect 2 "$cento" run --chunk @ question
    says err "expected a file name after @"
    expect 1 "$cento" run --model /nonexistent question
    says err "/nonexistent"
    expect 1 "$cento" model /nonexistent
    expect 1 "$cento" tokenize --model /nonexistent text
    expect 1 "$cento" bench qa --questions no-such-file.json
    says err "no-such-file.json"
}

test_invalid_utf8_is_refused_with_its_place() {
    printf 'good\nbad \xff here\n' >bad.txt
    expect 1 "$cento" run --chunk @bad.txt question
    says err "bad.txt: expected UTF-8, found byte 0xFF at offset 9 (line 2)"
    expect 2 "$cento" run --chunk $'a\xc0\xaf' question
    says err "--chunk: expected UTF-8, found byte 0xC0 at offset 1"
    expect 2 "$cento" run $'\xed\xa0\x80'
    says err "--query: expected UTF-8, found byte 0xED"
    printf 'truncated \xe2\x82' | expect 1 "$cento" tokenize -
    says err "standard input: expected UTF-8, found byte 0xE2 at offset 10"
}

test_empty_pieces_are_refused() {
    : >empty.txt
    printf '\n' >newline.txt
    expect 1 "$cento" run --chunk @empty.txt question
    says err "empty.txt: expected some text, found nothing"
    expect 1 "$cento" run --chunk @newline.txt question
    expect 2 "$cento" run --chunk "" question
    says err "--chunk: expected some text, found nothing"
    expect 2 "$cento" run --query ""
    expect 2 "$cento" run --stop "" question
    expect 1 "$cento" run --chunk - question </dev/null
    says err "standard input: expected some text"
}

run_tests
