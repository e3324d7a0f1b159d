"""OpenAI's own Python client against cento serve. Skipped where the package is not there (scripts/deps --test)."""
import asyncio
import sys

try:
    import openai
except ImportError:
    print("skipped: no package 'openai'")
    sys.exit(77)

from serve import eventually, run_tests, serving

QUESTION = [{"role": "user", "content": "Where is Crystalton?"}]


def client_of(server, **options):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", **options)


def refused(kind, call, **arguments):
    try:
        call(**arguments)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def test_chat_and_its_stream():
    with serving() as server:
        client = client_of(server)
        model = client.models.list().data[0].id
        assert client.models.retrieve(model).id == model == server.model
        whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
        text = ""
        for event in client.chat.completions.create(model=model, messages=QUESTION, temperature=0, stream=True,
                                                    stream_options={"include_usage": True}):
            text += (event.choices[0].delta.content or "") if event.choices else ""
        assert text == whole.choices[0].message.content != "" and whole.choices[0].finish_reason == "stop"
        assert event.usage.completion_tokens == whole.usage.completion_tokens
        assert event.usage.prompt_tokens_details.cached_tokens > 0


def test_logprobs_completions_and_own_fields():
    with serving() as server:
        client = client_of(server)
        answer = client.chat.completions.create(model=server.model, messages=QUESTION, logprobs=True, top_logprobs=2)
        tokens = answer.choices[0].logprobs.content
        assert "".join(token.token for token in tokens) == answer.choices[0].message.content
        assert all(len(token.top_logprobs) == 2 for token in tokens)
        assert client.completions.create(model=server.model, prompt="The river Vell").choices[0].text
        parts = [{"type": "text", "text": "The Vell is a river in the north.", "cento": {"chunk": True}},
                 {"type": "text", "text": "What is the Vell?"}]
        answer = client.chat.completions.create(model=server.model, messages=[{"role": "user", "content": parts}],
                                                extra_body={"cento": {"mode": "link:4"}})
        assert answer.usage.model_dump()["cento"]["mode"] == "link:4"


def test_errors_are_the_clients_own():
    with serving() as server:
        create = client_of(server, max_retries=0).chat.completions.create
        error = refused(openai.NotFoundError, create, model="gpt-9", messages=QUESTION)
        assert error.code == "model_not_found" and error.param == "model"
        error = refused(openai.BadRequestError, create, model=server.model, messages=QUESTION, temperature=9)
        assert error.param == "temperature" and error.type == "invalid_request_error"


def test_a_closed_stream_cancels():
    with serving() as server:
        stream = client_of(server).chat.completions.create(model=server.model, messages=QUESTION, stream=True,
                                                           max_tokens=3900, extra_body={"cento": {"ignore_eos": True}})
        next(iter(stream))
        stream.close()
        eventually(lambda: server.metric('requests_total{end="cancelled"}') == 1)


def test_a_full_queue_is_retried():
    with serving("--max-sequences", "1", "--max-waiting", "1") as server:
        async def ask_all():
            client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=20)
            return await asyncio.gather(*[client.chat.completions.create(
                model=server.model, messages=[{"role": "user", "content": f"Where is house {i}?"}], max_tokens=8)
                for i in range(6)])
        assert len(asyncio.run(ask_all())) == 6
        assert server.metric('requests_total{end="finished"}') == 6


run_tests(globals())
