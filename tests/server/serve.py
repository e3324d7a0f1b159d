"""What the server's tests share: a server of their own, requests, and a runner that prints cmocka's lines."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback

CENTO = os.environ["CENTO_BINARY"]
SOURCES = pathlib.Path(os.environ["CENTO_SOURCE_DIR"])
CACHE = (pathlib.Path(CENTO).parent / "CMakeCache.txt").read_text()
SANITIZED = "CENTO_SANITIZE:STRING=\n" not in CACHE
# OpenMP is not instrumented: under TSan what is checked is our own locking
THREADS = ["--threads", "1"] if "CENTO_SANITIZE:STRING=thread\n" in CACHE else []
NOTES = {path.stem: path.read_text() for path in sorted((SOURCES / "examples/notes").glob("*.txt"))}


class Server:
    def __init__(self, *options):
        self.process = subprocess.Popen([CENTO, "serve", "--port", "0", "--log-format", "json", *THREADS, *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:(\d+) serves (\S+)", line)
        if match is None:
            raise AssertionError(f"no server: {line!r} {self.process.communicate()[1]}")
        self.port, self.model = int(match[1]), match[2]
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, text)"""
        connection = self.connect()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    def json(self, method, path, body=None, status=200):
        got, _, text = self.request(method, path, body)
        assert got == status, (got, text)
        return json.loads(text)

    def chat(self, messages, status=200, **fields):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.json("POST", "/v1/chat/completions", {"messages": messages, **fields}, status)

    def stream(self, path, **fields):
        """The events' data, but for the last, which must be [DONE]."""
        status, headers, text = self.request("POST", path, {"stream": True, **fields})
        assert status == 200 and headers["Content-Type"] == "text/event-stream", text
        events = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
        assert events[-1] == "[DONE]", text[-200:]
        return [json.loads(event) for event in events[:-1]]

    def metric(self, name):
        for line in self.request("GET", "/metrics")[2].splitlines():
            if line.startswith(f"cento_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def stop(self, number=signal.SIGTERM):
        """Standard error."""
        self.process.send_signal(number)
        errors = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == 0, (self.process.returncode, errors[-2000:])
        return errors


@contextlib.contextmanager
def serving(*options):
    server = Server(*options)
    try:
        yield server
        server.stop()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def eventually(holds, seconds=10):
    end = time.monotonic() + seconds * (6 if SANITIZED else 1)
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def run_tests(names):
    failed = False
    for name, test in list(names.items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            print(f"[       OK ] {name}", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"[  FAILED  ] {name}", flush=True)
            failed = True
    sys.exit(failed)
