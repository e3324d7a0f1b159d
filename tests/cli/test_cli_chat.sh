# cento chat driven through a pipe: commands, saving and loading, reuse between turns.
. "$(dirname "$0")/support.bash"

# talk STATUS LINE…: the lines to a chat with a system prompt
talk() {
    local expected=$1
    shift
    printf '%s\n' "$@" >lines
    expect "$expected" "$cento" chat --system "Answer from the documents." --stats <lines
}

# the numbers of the summary line: reused N
reused() {
    grep "prompt tokens" err | sed -n "$1p" | sed -E 's/^[0-9,]+ prompt tokens, ([0-9,]+) reused.*/\1/; s/,//g'
}

test_a_pipe_gets_answers_only() {
    printf 'Where is Crystalton?\n' >lines
    expect 0 "$cento" chat --chunk "@$notes/crystalton.txt" <lines
    [ "$(wc -l <out)" = 1 ]
    [ ! -s err ] || fail "err is not empty: $(head -c 300 err)"
    # the last line may lack its newline
    printf 'Where is Crystalton?' >lines
    mv out before
    expect 0 "$cento" chat --chunk "@$notes/crystalton.txt" <lines
    cmp out before
}

test_a_turn_reuses_the_turns_before_it() {
    talk 0 "/context @$notes/crystalton.txt" "Where is Crystalton?" "Who is the mayor of Crystalton?"
    [ "$(reused 1)" -eq 0 ]
    [ "$(reused 2)" -gt 80 ]
    [ "$(wc -l <out)" = 2 ]
}

test_a_question_can_be_set_first_and_asked_later() {
    talk 0 "/context @$notes/crystalton.txt" "/query Where is Crystalton?" "/infer"
    mv out later
    talk 0 "/context @$notes/crystalton.txt" "Where is Crystalton?"
    cmp out later
    talk 1 "/infer"
    says err "there is no question"
}

test_the_list_shows_kinds_and_content_ids() {
    talk 0 "/context @$notes/crystalton.txt" "/context @$notes/vell.txt" "Where is Crystalton?" "/list"
    tail -n +2 out >table
    grep -qE '^ +system +[0-9]+ +[0-9a-f]{12}  Answer from' table
    grep -qE '^1  context +[0-9]+ +[0-9a-f]{12}  crystalton.txt: Crystalton is' table
    grep -qE '^2  context +[0-9]+ +[0-9a-f]{12}  vell.txt: ' table
    grep -qE '^ +query +[0-9]+ +[0-9a-f]{12}  Where is' table
    grep -qE '^ +output +[0-9]+ ' table
    # the ids are those that a run reports
    expect 0 "$cento" run --json --chunk "@$notes/vell.txt" --max-tokens 1 "What?"
    local id
    id=$(python3 -c 'import json; print([s["content_id"][:12] for s in json.load(open("out"))["segments"] if s["kind"] == "context"][0])')
    says table "$id"
}

test_answers_are_kept_used_and_deleted() {
    talk 0 "/context @$notes/crystalton.txt" "Where is Crystalton?" "/output" "/use-output 1" "/clear context 1" \
        "/list" "/delete-output 1" "/output"
    [ "1  $(sed -n 1p out)" = "$(sed -n 2p out)" ]
    grep -qE '^1  context .* answer 1: ' out
    tail -n 1 out >last
    lacks last '^1  '
    talk 1 "/use-output 1"
    says err "/use-output: expected the number of a kept answer"
    talk 1 "/delete-output x"
}

test_a_saved_chat_goes_on_where_it_was() {
    talk 0 "/mode independent anchored" "/context @$notes/crystalton.txt" "Where is Crystalton?" \
        "/query Who is the mayor of Crystalton?" "/save chat.json" "/list" "/mode" "/infer"
    check 'a["version"] == 1 and a["system"] == "Answer from the documents."' chat.json
    check 'len(a["contexts"]) == 1 and a["contexts"][0]["label"] == "crystalton.txt"' chat.json
    check 'a["turns"][0]["query"] == "Where is Crystalton?" and len(a["outputs"]) == 1' chat.json
    check 'a["query"] == "Who is the mayor of Crystalton?" and a["mode"] == "independent" and a["anchored"]' chat.json
    tail -n +2 out >expected
    printf '%s\n' "/load chat.json" "/list" "/mode" "/infer" >lines
    expect 0 "$cento" chat <lines
    cmp out expected
    printf '%s\n' "/list" "/mode" "/infer" >lines
    expect 0 "$cento" chat --load chat.json <lines
    cmp out expected
}

test_a_damaged_chat_file_is_refused_and_changes_nothing() {
    for text in '{' '[]' '{"version": 2}' '{"version": 1, "turns": [{"query": "x"}]}' \
        '{"version": 1, "contexts": 3}' '{"version": 1, "mode": "fast"}' \
        '{"version": 1, "outputs": [{"number": 1, "text": "a"}, {"number": 1, "text": "b"}]}'; do
        printf '%s' "$text" >damaged.json
        talk 1 "/context one document" "/load damaged.json" "/list"
        says err "damaged.json"
        says out "one document"
    done
    talk 1 "/load missing.json"
    says err "missing.json: cannot open"
    talk 1 "/save /nonexistent/file.json"
    says err "/nonexistent/file.json"
}

test_clearing_forgets_what_it_names() {
    talk 0 "/context one" "/context two" "/clear context 1" "/list"
    lacks out ' one$'
    says out " two"
    talk 0 "/context one" "/clear context" "/clear system" "/list"
    lacks out 'context  |system'
    talk 1 "/context one" "/clear context 2"
    says err "expected a number from 1 to 1, found '2'"
    talk 1 "/clear everything"
    says err "/clear: expected"
}

test_wrong_commands_say_what_was_expected_and_the_chat_goes_on() {
    talk 1 "/contxt @a.txt" "/nonsense" "/context @missing.txt" "/context" "/mode fast" "/exit now" \
        "/context @$notes/crystalton.txt" "Where is Crystalton?"
    says err "unknown command /contxt; did you mean /context?"
    says err "unknown command /nonsense; /help lists them"
    says err "missing.txt: cannot open"
    says err "/context: expected some text"
    says err "/mode: expected exact"
    says err "/exit takes nothing after it"
    [ "$(wc -l <out)" = 1 ]
}

test_lines_that_are_not_utf8_are_left_out() {
    printf 'bad \xff\n/exit\n' >lines
    expect 1 "$cento" chat <lines
    says err "not text in UTF-8"
}

test_exit_ends_it_and_help_lists_all_commands() {
    talk 0 "/help" "/exit" "/nonsense"
    for command in system context query infer mode clear list stats output use-output delete-output save load \
        help exit; do
        says out "/$command"
    done
}

test_stats_count_what_was_computed() {
    talk 0 "/context @$notes/crystalton.txt" "Where is Crystalton?" "/stats"
    says out "tokens computed"
    says out "KV pool"
}

test_a_line_goes_on_after_a_backslash() {
    talk 0 "/context first line\\" "second line" "/save chat.json"
    check 'a["contexts"][0]["text"] == "first line\nsecond line"' chat.json
    talk 0 "//slash first" "/save chat.json"
    check 'a["turns"][0]["query"] == "/slash first"' chat.json
}

test_an_interrupt_cancels_the_answer_and_not_the_chat() {
    mkfifo lines
    "$cento" chat --ignore-eos --max-tokens 4000 <lines >out 2>err &
    local chat=$! status=0 waited
    exec 3>lines
    printf 'Tell me something long.\n' >&3
    for waited in $(seq 600); do # the answer has begun
        [ ! -s out ] || break
        sleep 0.1
    done
    kill -INT "$chat"
    printf '/save chat.json\n/exit\n' >&3
    exec 3>&-
    wait "$chat" || status=$?
    [ "$status" = 1 ] || fail "exit status $status, expected 1: an answer failed, the chat did not"
    check 'a["query"] == "Tell me something long." and a["turns"] == []' chat.json
}

run_tests
