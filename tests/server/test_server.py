"""cento serve: its API, its limits, and that a client's fate is its own. The server uses threads."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from serve import CENTO, NOTES, SANITIZED, SOURCES, THREADS, eventually, run_tests, serving

SYSTEM = "Answer from the documents."
QUESTIONS = ["Where is Crystalton?", "Where does the Vell rise?", "Who is the mayor of Crystalton?",
             "Which fish is the Vell rich in?", "Where is Ambleton?"]


def chunk(text):
    return {"type": "text", "text": text, "cento": {"chunk": True}}


def messages(question, *notes):
    return [{"role": "system", "content": SYSTEM},
            {"role": "user", "content": [chunk(NOTES[note]) for note in notes] + [{"type": "text", "text": question}]}]


def test_answers_are_those_of_the_command_line():
    with serving() as server:
        for question in QUESTIONS[:3]:
            ran = subprocess.run([CENTO, "run", "--json", "--system", SYSTEM, "--chunk", NOTES["crystalton"].rstrip("\n"),
                                  "--chunk", NOTES["vell"].rstrip("\n"), "--query", question, *THREADS],
                                 capture_output=True, check=True, text=True)
            expected = json.loads(ran.stdout)
            parts = [chunk(NOTES[note].rstrip("\n")) for note in ("crystalton", "vell")]
            answer = server.chat([{"role": "developer", "content": SYSTEM},
                                  {"role": "user", "content": parts + [{"type": "text", "text": question}]}])
            choice = answer["choices"][0]
            assert choice["message"]["content"] == expected["text"], (choice, expected["text"])
            assert choice["message"]["role"] == "assistant" and choice["finish_reason"] == "stop"
            assert answer["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
            assert answer["object"] == "chat.completion" and answer["model"] == server.model


def test_a_stream_is_the_answer_in_parts():
    with serving() as server:
        asked = messages(QUESTIONS[0], "crystalton", "vell")
        whole = server.chat(asked)
        events = server.stream("/v1/chat/completions", messages=asked, stream_options={"include_usage": True})
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        assert all(e["object"] == "chat.completion.chunk" and e["id"] == events[0]["id"] for e in events)
        assert events[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        assert all(e["usage"] is None for e in events[:-1])
        assert "usage" not in server.stream("/v1/chat/completions", messages=asked)[0]


def test_what_was_computed_is_reused_and_says_so():
    with serving() as server:
        cold = server.chat(messages(QUESTIONS[0], "crystalton", "vell"), cento={"mode": "exact"})["usage"]
        assert cold["prompt_tokens_details"]["cached_tokens"] == 0
        warm = server.chat(messages(QUESTIONS[1], "crystalton", "vell"))["usage"]
        assert warm["cento"]["mode"] == "exact"
        assert warm["prompt_tokens_details"]["cached_tokens"] == warm["cento"]["exact_tokens"] > 100
        assert warm["total_tokens"] == warm["prompt_tokens"] + warm["completion_tokens"]
        server.chat(messages(QUESTIONS[0], "crystalton", "vell"), cento={"mode": "independent"})
        turned = server.chat(messages(QUESTIONS[0], "vell", "crystalton"), cento={"mode": "independent"})["usage"]
        assert turned["cento"]["approximate_tokens"] > 100, turned
        salted = server.chat(messages(QUESTIONS[0], "crystalton", "vell"), cento={"salt": "another"})["usage"]
        assert salted["prompt_tokens_details"]["cached_tokens"] == 0
        retained = server.chat(messages(QUESTIONS[0], "crystalton"), cento={"retain": True})["usage"]
        output = server.json("GET", f"/v1/chunks/{retained['cento']['output_id']}")
        assert output["kind"] == "output"


def test_a_registered_chunk_is_named_by_its_id():
    with serving() as server:
        made = server.json("POST", "/v1/chunks", {"text": NOTES["vell"], "label": "vell", "pin": True}, 201)
        assert made["object"] == "chunk" and made["kind"] == "context" and made["pins"] == 1 and made["ttl_s"] is None
        again = server.json("POST", "/v1/chunks", {"text": NOTES["vell"]}, 201)
        assert again["id"] == made["id"]
        asked = [{"role": "user", "content": [{"type": "chunk", "id": made["id"]},
                                              {"type": "text", "text": QUESTIONS[1]}]}]
        by_text = [{"role": "user", "content": [chunk(NOTES["vell"]), {"type": "text", "text": QUESTIONS[1]}]}]
        assert server.chat(asked)["choices"] == server.chat(by_text)["choices"]
        assert server.json("GET", "/v1/chunks?label=vell")["data"][0]["id"] == made["id"]
        assert server.json("GET", "/v1/chunks?kind=tool")["data"] == []
        changed = server.json("PATCH", f"/v1/chunks/{made['id']}", {"pin": False, "ttl_s": 600})
        assert changed["pins"] == 0 and 590 < changed["ttl_s"] <= 600
        assert server.json("DELETE", f"/v1/chunks/{made['id']}")["deleted"] is True
        assert server.json("GET", f"/v1/chunks/{made['id']}", status=404)["error"]["code"] == "not_found"
        assert server.json("GET", "/v1/chunks/xyz", status=400)["error"]["message"]
        unknown = [{"role": "user", "content": [{"type": "chunk", "id": "0" * 64}, {"type": "text", "text": "?"}]}]
        assert server.chat(unknown, status=404)["error"]["message"]


def test_sampling_and_limits_are_obeyed():
    with serving() as server:
        asked = messages(QUESTIONS[0], "crystalton")
        greedy = server.chat(asked, temperature=0)["choices"][0]
        cut = server.chat(asked, temperature=0, max_completion_tokens=2)["choices"][0]
        assert cut["finish_reason"] == "length" and greedy["message"]["content"].startswith(cut["message"]["content"])
        word = greedy["message"]["content"].split()[2]
        stopped = server.chat(asked, temperature=0, stop=[word])["choices"][0]
        assert word not in stopped["message"]["content"] and stopped["finish_reason"] == "stop"
        seeded = [server.chat(asked, temperature=2, seed=7, cento={"ignore_eos": True}, max_tokens=20)["choices"]
                  for _ in range(2)]
        assert seeded[0] == seeded[1] != server.chat(asked, temperature=2, seed=8, cento={"ignore_eos": True},
                                                     max_tokens=20)["choices"]
        logprobs = server.chat(asked, temperature=0, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
        assert "".join(token["token"] for token in logprobs) == greedy["message"]["content"]
        for token in logprobs:
            assert bytes(token["bytes"]).decode() == token["token"] and len(token["top_logprobs"]) == 3
            assert token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0
        first = server.json("POST", "/tokenize", {"prompt": greedy["message"]["content"], "add_special_tokens": False})
        banned = server.chat(asked, temperature=0, logit_bias={str(first["tokens"][0]): -100})["choices"][0]
        assert banned["message"]["content"] != greedy["message"]["content"]


def test_text_completions_and_tokens():
    with serving() as server:
        tokens = server.json("POST", "/tokenize", {"prompt": "The river Vell rises", "add_special_tokens": False})
        assert tokens["count"] == len(tokens["tokens"]) > 0 and tokens["max_model_len"] == 4096
        back = server.json("POST", "/detokenize", {"tokens": tokens["tokens"]})
        assert back["prompt"] == "The river Vell rises"
        by_text = server.json("POST", "/v1/completions", {"prompt": "The river Vell rises", "temperature": 0})
        by_ids = server.json("POST", "/v1/completions", {"prompt": tokens["tokens"], "temperature": 0})
        assert by_text["choices"] == by_ids["choices"] and by_text["object"] == "text_completion"
        assert by_text["usage"]["completion_tokens"] <= 16
        events = server.stream("/v1/completions", prompt=["The river Vell rises"], temperature=0)
        assert "".join(e["choices"][0]["text"] for e in events) == by_text["choices"][0]["text"]


def test_what_is_wrong_is_said_with_its_field():
    user = [{"role": "user", "content": "Hello"}]
    cases = [
        ({}, "messages"), ({"messages": []}, "messages"), ({"messages": 3}, "messages"), ({"messages": [3]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "queen", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "chunk"}]}]}, "messages[0].content"),
        ({"messages": user + [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": user, "temperature": "hot"}, "temperature"), ({"messages": user, "temperature": -1}, "temperature"),
        ({"messages": user, "top_p": 2}, "top_p"), ({"messages": user, "n": 2}, "n"), ({"messages": user, "n": -2**63}, "n"),
        ({"messages": user, "n": 10**30}, None), ({"messages": user, "max_tokens": 0}, "max_tokens"),
        ({"messages": user, "max_tokens": 2**63 - 1}, "max_tokens"), ({"messages": user, "stop": [""]}, "stop"),
        ({"messages": user, "stop": ["a\0b"]}, "stop"), ({"messages": user, "stop": ["x"] * 17}, "stop"),
        ({"messages": user, "logit_bias": {"one": 1}}, "logit_bias"), ({"messages": user, "logit_bias": [1]}, "logit_bias"),
        ({"messages": user, "stream": "yes"}, "stream"), ({"messages": user, "top_logprobs": 3}, "top_logprobs"),
        ({"messages": user, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": user, "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": user, "cento": {"mode": "quick"}}, "cento.mode"), ({"messages": user, "cento": 1}, "cento"),
        ({"messages": user, "cento": {"retain": 3}}, "cento.retain"),
        ({"messages": user, "cento": {"anchored": True}}, "cento.anchored"),
    ]
    with serving() as server:
        for body, param in cases:
            error = server.json("POST", "/v1/chat/completions", body, 400)["error"]
            assert error["type"] == "invalid_request_error" and error["param"] == param and error["message"], (body, error)
        for raw in [b"", b"{", b"[]", b'{"messages": "\xff\xfe"}', b"[" * 100000, b'{"a":1,"a":2}', b"\0"]:
            error = server.json("POST", "/v1/chat/completions", raw, 400)["error"]
            assert error["code"] == "invalid_json", (raw[:40], error)
        long = server.chat("road " * 6000, status=400)["error"]
        assert long["code"] == "context_length_exceeded" and "4096" in long["message"]
        assert server.chat(user, status=404, model="gpt-9")["error"]["code"] == "model_not_found"
        assert server.json("GET", "/v1/nothing", status=404)["error"]["code"] == "not_found"
        assert server.json("GET", "/v1/chat/completions", status=405)["error"]["code"] == "method_not_allowed"
        assert server.json("POST", "/tokenize", {"prompt": 3}, 400)["error"]["param"] == "prompt"
        assert server.json("POST", "/detokenize", {"tokens": [10**9]}, 400)["error"]["message"]
        assert server.json("POST", "/v1/chunks", {"text": ""}, 400)["error"]["message"]
        assert server.json("POST", "/v1/chunks", {"text": "a", "tokens": [1]}, 400)["error"]["param"] == "text"
        # unknown fields are other servers' business
        server.chat(user, service_tier="auto", user="somebody", metadata={}, tool_choice="none", tools=[])
        assert server.json("GET", "/health") == {"status": "ok"} and server.json("GET", "/ready") == {"ready": True}


def endless(server, stream, tokens=3900):
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": stream, "max_tokens": tokens,
                       "cento": {"ignore_eos": True}})
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


def test_a_client_that_goes_away_cancels_its_request():
    with serving() as server:
        for stream in (True, False):
            before = server.metric('requests_total{end="cancelled"}')
            connection = endless(server, stream)
            eventually(lambda: server.metric('requests{state="running"}') == 1)
            connection.close()
            eventually(lambda: server.metric('requests_total{end="cancelled"}') == before + 1)
            assert server.metric('pages{state="sequence"}') == 0
        assert server.chat("Hello")["usage"]["completion_tokens"] > 0


def test_clients_side_by_side_get_what_each_gets_alone():
    asked = [messages(question, *notes) for question in QUESTIONS for notes in (("crystalton", "vell"), ("vell", "ambleton"))]
    with serving("--deterministic") as server:
        alone = [server.chat(each, temperature=0)["choices"][0]["message"]["content"] for each in asked]
        together = [None] * len(asked)

        def ask(i):
            events = server.stream("/v1/chat/completions", messages=asked[i], temperature=0)
            together[i] = "".join(e["choices"][0]["delta"].get("content", "") for e in events)

        for _ in range(1 if SANITIZED else 4):
            threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert together == alone


def test_a_full_queue_is_told_to_come_again():
    with serving("--max-sequences", "1", "--max-waiting", "1") as server:
        held = [endless(server, True)]
        eventually(lambda: server.metric('requests{state="running"}') == 1)
        held.append(endless(server, True))
        eventually(lambda: server.metric('requests{state="waiting"}') == 1)
        status, headers, text = server.request("POST", "/v1/chat/completions",
                                               {"messages": [{"role": "user", "content": "Hello"}]})
        assert status == 429 and headers["Retry-After"] == "1", text
        assert json.loads(text)["error"]["type"] == "rate_limit_error"
        for connection in held:
            connection.close()


def test_limits_hold_and_others_are_served():
    with serving("--body-bytes-max", "100K", "--idle-timeout", "1", "--connections-max", "40") as server:
        connection = server.connect()
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", str(1 << 30))
        connection.endheaders()  # refused before it is sent
        answer = connection.getresponse()
        assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == "too_large"
        assert server.json("POST", "/v1/chat/completions", b" " * 200000, 413)["error"]["code"] == "too_large"
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHo")
        assert server.chat("Hello")["choices"]
        for connection in slow:
            connection.settimeout(10)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            connection.close()
        huge = server.connect()
        huge.request("GET", "/health", headers={"X-Huge": "x" * 100000})
        try:
            assert huge.getresponse().status in (413, 414, 431)
        except (ConnectionError, OSError):
            pass
        assert server.json("GET", "/health") == {"status": "ok"}


def test_one_connection_asks_again_and_again():
    with serving("--cors-origin", "*") as server:
        connection, ids = server.connect(), set()
        for _ in range(5):
            connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [{"role": "user", "content": "Hi"}]}))
            answer = connection.getresponse()
            body = json.loads(answer.read())
            assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] == "*"
            assert body["id"] == f"chatcmpl-{answer.headers['X-Request-Id']}"
            ids.add(body["id"])
        assert len(ids) == 5
        assert server.request("OPTIONS", "/v1/chat/completions")[0] == 204
        assert server.request("HEAD", "/health")[0] == 200


def test_metrics_are_prometheus_text_and_logs_are_json():
    with serving() as server:
        usage = server.chat("Hello")["usage"]
        kinds, seen = {}, set()
        for line in server.request("GET", "/metrics")[2].splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in kinds and kind in ("counter", "gauge")
                kinds[name] = kind
            elif not line.startswith("# HELP "):
                series, value = line.rsplit(" ", 1)
                float(value)
                assert series.split("{")[0] in kinds and series not in seen, line
                seen.add(series)
        assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())
        assert server.metric("prompt_tokens_total") == usage["prompt_tokens"]
        assert server.metric('http_requests_total{status="2xx"}') >= 2
        lines = [json.loads(line) for line in server.stop().splitlines()]
        assert [line["status"] for line in lines] == [200] * len(lines)
        assert lines[0]["path"] == "/v1/chat/completions" and lines[0]["usage"]["prompt_tokens"] == usage["prompt_tokens"]


def test_an_end_lets_requests_end_first():
    with serving("--drain", "120") as server:
        connection = endless(server, True, 300 if SANITIZED else 2000)
        body = b""
        while b"content" not in body:
            body += connection.recv(65536)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        try:
            server.request("GET", "/health")
            raise AssertionError("a connection was taken after the end began")
        except ConnectionError:
            pass
        while True:
            part = connection.recv(65536)
            if not part:
                break
            body += part
        assert b"[DONE]" in body, body[-300:]
        assert server.process.wait(60) == 0, server.process.stderr.read()
    with serving("--drain", "0") as server:
        connection = endless(server, False)
        eventually(lambda: server.metric('requests{state="running"}') == 1)
        began = time.monotonic()
        server.stop(signal.SIGINT)
        assert time.monotonic() - began < (60 if SANITIZED else 10)
        assert connection.recv(100) == b""


def test_every_example_of_the_documentation_runs():
    text = (SOURCES / "docs/api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 6
    with serving() as server:
        for block in blocks:
            ran = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", block.replace("curl -s", "curl --fail -sS")],
                                 capture_output=True, text=True, env={**os.environ, "CENTO_URL": server.url})
            assert ran.returncode == 0 and ran.stdout, (block, ran)


def test_what_cannot_be_served_is_said():
    def refused(*arguments):
        ran = subprocess.run([CENTO, "serve", *THREADS, *arguments], capture_output=True, text=True, timeout=120)
        assert ran.stdout == "" and ran.returncode in (1, 2), (arguments, ran)
        return ran.stderr
    assert "expected" in refused("--port", "70000")
    assert "no.such.host.invalid" in refused("--host", "no.such.host.invalid")
    with serving() as server:
        assert "cannot listen" in refused("--port", str(server.port))


run_tests(globals())
