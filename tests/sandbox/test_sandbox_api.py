from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from runcomfy.errors import ConfigurationError
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.fault_registry import RequestOptions
from runcomfy.sandbox.job_queue import Job, JobQueue
from runcomfy.sandbox.models import catalogue
from runcomfy.sandbox.render import Recipe

TEXT_TO_VIDEO = "wan-ai/wan-2-1/text-to-video"
IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"
CONTRACT = Path(__file__).parents[1] / "contract"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_plain_curl_gets_a_video_out_of_it(sandbox: Sandbox, caller: Any) -> None:
    """The whole way works with nothing but curl: submit, status, result, download."""

    def curl(*arguments: str) -> Any:
        auth = f"Authorization: Bearer {sandbox.token}"
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "-H", auth, *arguments], capture_output=True, check=True, timeout=120
        )
        return done.stdout

    submitted = json.loads(curl("-d", '{"prompt": "a lighthouse"}', f"{sandbox.url}/v1/models/{TEXT_TO_VIDEO}"))
    caller.ended(submitted["request_id"])
    status = json.loads(curl(submitted["status_url"]))
    result = json.loads(curl(f"{submitted['result_url']}?include_cost=true"))

    assert {"request_id", "status_url", "result_url", "cancel_url"} == submitted.keys()
    assert {
        "request_id": submitted["request_id"],
        "status": "completed",
        "status_url": submitted["status_url"],
        "result_url": submitted["result_url"],
    } == status
    assert (result["status"], result["cost"]) == ("succeeded", 0.25)
    assert curl(result["output"]["video"])[4:8] == b"ftyp"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "sandbox-token"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v1/models/{TEXT_TO_VIDEO}"),
        ("GET", f"/v1/models/{TEXT_TO_VIDEO}"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/categories"),
        ("GET", "/v1/requests/x/status"),
        ("GET", "/v1/requests/x/result"),
        ("POST", "/v1/requests/x/cancel"),
        ("GET", "/prod/v2/balance"),
    ],
)
def test_every_call_needs_the_token(caller: Any, headers: dict[str, str], method: str, path: str) -> None:
    """A call without the right bearer token is refused with 401 and code 400004, and does nothing."""
    answer = caller.plain.request(method, caller.sandbox.url + path, headers=headers, json={"prompt": "x"})

    assert (answer.status_code, answer.json()["error_code"]) == (401, 400004)
    assert caller.sandbox.books().submissions_accepted == 0


def test_cost_is_returned_only_on_request(caller: Any) -> None:
    """The result has a cost only with include_cost=true."""
    request_id, result = caller.finished()

    assert "cost" not in result
    assert caller.result(request_id, include_cost="true").json()["cost"] == 0.25


def test_result_of_a_queued_request_is_its_state(caller: Any) -> None:
    """While a request is not finished, its result has the state and no output."""
    caller.sandbox.hold()
    request_id = caller.submitted()

    result = caller.result(request_id).json()

    assert result["status"] == "in_queue"
    assert not result.keys() & {"output", "finished_at", "error"}


def test_the_queue_is_first_in_first_out_with_positions_from_one(caller: Any) -> None:
    """Queued requests have positions 1, 2 …; slots bound how many run; a running one has no position."""
    caller.sandbox.hold(queue=True, runs=True)
    ids = [caller.submitted(f"number {number}") for number in range(4)]
    assert [caller.status(one).json()["queue_position"] for one in ids] == [1, 2, 3, 4]

    caller.sandbox.hold(queue=False, runs=True)

    answers = [caller.status(one).json() for one in ids]
    assert [answer["status"] for answer in answers] == ["in_progress", "in_progress", "in_queue", "in_queue"]
    assert [answer.get("queue_position") for answer in answers] == [None, None, 1, 2]
    caller.sandbox.release()
    for one in ids:
        caller.ended(one)
    assert caller.sandbox.books().succeeded == 4


def test_a_queued_request_can_be_cancelled_and_a_running_one_cannot(caller: Any) -> None:
    """A cancel is answered with 202; its outcome is `cancelled` only while the request is queued."""
    caller.sandbox.hold(queue=False, runs=True)
    running = [caller.submitted("one"), caller.submitted("two")]
    queued = caller.submitted("three")

    answers = [caller.cancel(running[0]), caller.cancel(queued), caller.cancel(queued)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert [answer.json()["outcome"] for answer in answers] == ["not_cancellable", "cancelled", "not_cancellable"]
    assert "cancelled" == caller.status(queued).json()["status"] == caller.result(queued).json()["status"]
    assert caller.sandbox.books().cancelled == 1


def test_unknown_requests_and_models_are_refused(caller: Any) -> None:
    """An unknown request is 404001 and an unknown model 400001; a POST to it charges nothing."""
    answers = [caller.status("x"), caller.result("x"), caller.cancel("x"), caller.submit(model="wan-ai/none")]

    assert [answer.json()["error_code"] for answer in answers] == [404001, 404001, 404001, 400001]
    assert caller.sandbox.books().usd_charged == 0.0


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (TEXT_TO_VIDEO, {}),
        (TEXT_TO_VIDEO, {"prompt": 7}),
        (TEXT_TO_VIDEO, {"prompt": "x", "num_frames": 82}),
        (TEXT_TO_VIDEO, {"prompt": "x", "frames_per_second": 25}),
        (TEXT_TO_VIDEO, {"prompt": "x", "frames_per_second": True}),
        (TEXT_TO_VIDEO, {"prompt": "x", "aspect_ratio": "1:1"}),
        (IMAGE_TO_VIDEO, {"prompt": "x"}),
        (IMAGE_TO_VIDEO, {"prompt": "x", "image_url": "https://h/i", "resolution": "580p"}),
        (IMAGE_TO_VIDEO, {"prompt": "x", "image_url": "https://h/i", "num_frames": 101}),
        (TEXT_TO_VIDEO, {"prompt": "x [sandbox: result=faild]"}),
        (TEXT_TO_VIDEO, {"prompt": "x [sandbox: run_seconds=soon]"}),
        (TEXT_TO_VIDEO, {"prompt": "x [sandbox: status=http_503:retry_after=soon]"}),
    ],
)
def test_inputs_that_break_the_schema_are_refused(caller: Any, model: str, inputs: dict[str, Any]) -> None:
    """Inputs outside the published schema, and directives that mean nothing, get a 422 with an error body."""
    answer = caller.http.post(f"/v1/models/{model}", json=inputs)

    assert answer.status_code == 422
    assert answer.json()["error_message"]
    assert caller.sandbox.books().submissions_accepted == 0


@pytest.mark.parametrize("model", [TEXT_TO_VIDEO, IMAGE_TO_VIDEO])
@pytest.mark.parametrize("field", ["prompt", "num_frames", "frames_per_second", "resolution", "seed", "other"])
@pytest.mark.parametrize("value", ["720p", "x", 81, 81.0, 82, 82.0, 16, 16.0, 0, 1.5, 1e300, True, None, [], {}])
def test_the_check_agrees_with_json_schema(model: str, field: str, value: Any) -> None:
    """Our own check accepts exactly what a JSON Schema validator accepts under the schema that is shown."""
    inputs = {"prompt": "x", "image_url": "https://host/picture.png", field: value}

    expected = jsonschema.Draft202012Validator(catalogue()[model].entry["input_schema"]).is_valid(inputs)

    assert expected == (catalogue()[model].violations(inputs) == [])


def test_a_whole_number_may_be_written_as_a_decimal_one(caller: Any) -> None:
    """JavaScript and spreadsheets write 81.0; it is the same video, and the same in the ledger."""
    inputs = {"prompt": "x", "num_frames": 85.0, "frames_per_second": 16.0, "seed": 7.0}

    caller.ended(caller.http.post(f"/v1/models/{TEXT_TO_VIDEO}", json=inputs).json()["request_id"])

    (entry,) = caller.sandbox.books().requests
    assert entry.state == "succeeded"
    assert json.dumps([entry.inputs[name] for name in ("num_frames", "frames_per_second", "seed")]) == "[85, 16, 7]"


def test_a_price_may_be_for_a_second(calling: Callable[[Sandbox], Any]) -> None:
    """Then a longer video costs more, and the catalogue says so."""
    settings = SandboxSettings(run_seconds=0, tiny_videos=True, price_usd=0.1, price_unit="second")
    with Sandbox(settings) as sandbox:
        caller = calling(sandbox)
        costs = []
        for frames, rate in ((81, 16), (97, 8)):
            inputs = {"prompt": "x", "num_frames": frames, "frames_per_second": rate}
            request_id = caller.http.post(f"/v1/models/{TEXT_TO_VIDEO}", json=inputs).json()["request_id"]
            caller.ended(request_id)
            costs.append(caller.http.get(f"/v1/requests/{request_id}/result?include_cost=true").json()["cost"])
        entry = caller.http.get(f"/v1/models/{TEXT_TO_VIDEO}").json()

        assert costs == [0.50625, 1.2125]
        assert sandbox.books().usd_charged == pytest.approx(sum(costs))
        assert (entry["price_unit"], entry["base_price_usd"]) == ("second", 0.1)


def test_balance_goes_down_and_runs_out(calling: Callable[[Sandbox], Any]) -> None:
    """Each accepted submission is charged; without balance a submission is refused with 400002."""
    with Sandbox(SandboxSettings(run_seconds=0, tiny_videos=True, opening_balance_usd=0.6)) as sandbox:
        caller = calling(sandbox)
        answers = [caller.submit() for _ in range(3)]
        balance = caller.http.get("/prod/v2/balance").json()

        assert [answer.status_code for answer in answers] == [200, 200, 400]
        assert answers[2].json()["error_code"] == 400002
        assert balance == {"balance_usd": 0.1, "balance_microdollars": 100_000, "currency": "USD"}
        assert sandbox.books().usd_charged == 0.5


def test_the_catalogue_is_listed_filtered_and_described(caller: Any) -> None:
    """The catalogue answers search, category, limit, offset and include_schema, and describes one model."""
    ids = lambda **query: [entry["model_id"] for entry in caller.http.get("/v1/models", params=query).json()["models"]]  # noqa: E731

    assert {TEXT_TO_VIDEO, IMAGE_TO_VIDEO} == set(ids())
    assert [TEXT_TO_VIDEO] == ids(search="text") == ids(category="text-to-video")
    assert ids()[1:] == ids(offset="1", limit="5") == ids(offset="1", limit="500")
    assert ids(limit="1") == ids()[:1] and ids(offset="2") == []
    assert set(ids(kind="model")) == set(ids(search="WAN 2.1", category="")) == set(ids())
    assert ids(kind="workflow") == ids(category="text-to-image") == ids(search="nothing") == []
    assert caller.http.get("/v1/models?limit=1").json().keys() == {"models", "total"}
    assert caller.http.get("/v1/models?limit=1").json()["total"] == 2
    assert caller.http.get("/v1/models/categories").json() == {"categories": ["image-to-video", "text-to-video"]}
    assert "input_schema" not in caller.http.get("/v1/models").json()["models"][0]
    assert "input_schema" in caller.http.get("/v1/models?include_schema=true").json()["models"][0]
    one = caller.http.get(f"/v1/models/{IMAGE_TO_VIDEO}").json()
    assert one["input_schema"]["required"] == ["prompt", "image_url"]
    assert one.keys() == {
        "model_id", "kind", "display_name", "description", "categories", "input_schema", "base_price_usd",
        "price_unit", "pricing_note", "model_url",
    }  # fmt: skip
    assert (one["base_price_usd"], one["price_unit"], one["kind"]) == (0.25, "output", "model")
    assert one["model_url"] == f"https://www.runcomfy.com/models/{IMAGE_TO_VIDEO}"
    assert caller.http.get("/v1/models/none").json()["error_code"] == 400001


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=1.5", "offset=-1", "offset="])
def test_bounds_of_a_listing_are_kept(caller: Any, query: str) -> None:
    """`limit` is 1 to 500; what is beyond is refused and not cut, so that no client believes that it has all."""
    answer = caller.http.get(f"/v1/models?{query}")

    assert (answer.status_code, answer.json()["error_code"]) == (422, 422000)
    assert query.partition("=")[0] in answer.json()["error_message"]


@pytest.mark.parametrize("model", [TEXT_TO_VIDEO, IMAGE_TO_VIDEO])
def test_the_schema_is_the_published_one(caller: Any, model: str) -> None:
    """Word for word, with titles, descriptions and the samples given as defaults, of a prompt and an image."""
    published = CONTRACT / f"wan-2-1-{model.rpartition('/')[2]}.input.json"

    assert caller.http.get(f"/v1/models/{model}").json()["input_schema"] == json.loads(published.read_text())


def test_a_sample_is_never_taken_for_an_input(caller: Any) -> None:
    """What is required stays required, though it has a default."""
    answer = caller.http.post(f"/v1/models/{IMAGE_TO_VIDEO}", json={"resolution": "480p"})

    assert answer.status_code == 422
    assert "prompt is required; image_url is required" in answer.json()["error_message"]


def test_the_ledger_has_everything_that_happened(caller: Any) -> None:
    """The ledger counts submissions, money, reads, downloads and leaked tokens, and lists the requests."""
    request_id, result = caller.finished()
    caller.status(request_id)
    caller.submit(num_frames=1)
    body = caller.plain.get(result["output"]["video"]).content
    caller.http.get(result["output"]["video"])

    books = caller.sandbox.books()
    over_http = caller.plain.get(f"{caller.sandbox.url}/sandbox/books").json()

    assert (
        books.submissions_received,
        books.submissions_accepted,
        books.usd_charged,
        books.balance_usd,
    ) == (2, 1, 0.25, 999.75)
    assert (books.succeeded, books.polls, books.downloads, books.tokens_leaked) == (1, 2, 2, 1)
    assert 2 * len(body) == books.bytes_served
    assert [(request_id, "succeeded")] == [(entry.id, entry.state) for entry in books.requests]
    assert books.model_dump(mode="json") == over_http


def test_reset_empties_everything(caller: Any) -> None:
    """After a reset the ledger is empty, the balance is the opening balance, and old requests are unknown."""
    request_id, _ = caller.finished()
    caller.sandbox.inject("http_503", endpoint="status")

    caller.plain.post(f"{caller.sandbox.url}/sandbox/reset").raise_for_status()

    books = caller.sandbox.books()
    assert (books.requests, books.submissions_received, books.balance_usd) == ((), 0, 1000.0)
    assert caller.status(request_id).json()["error_code"] == 404001


def test_requests_expire_after_their_end(calling: Callable[[Sandbox], Any]) -> None:
    """A finished request is unknown once its time is over."""
    with Sandbox(SandboxSettings(run_seconds=0, tiny_videos=True, request_expiry_seconds=0)) as sandbox:
        _, result = calling(sandbox).finished()

        assert result["error_code"] == 404001


def test_hold_and_faults_are_controlled_over_http(caller: Any) -> None:
    """The control endpoints do what the Python methods do, and say what they cannot understand."""
    post = lambda path, body: caller.plain.post(f"{caller.sandbox.url}/sandbox/{path}", json=body).status_code  # noqa: E731

    assert [post("hold", body) for body in ({"queue": True}, {"cue": True}, [])] == [204, 400, 400]
    assert caller.status(caller.submitted()).json()["status"] == "in_queue"
    orders = (
        {"fault": "http_500", "endpoint": "balance", "rate": 1},
        {"fault": "none"},
        {"fault": "html", "colour": 1},
        {"fault": "videos", "endpoint": "cancel"},
        {"fault": "http_500", "request_id": "none"},
        [],
    )
    assert [post("faults", order) for order in orders] == [204, 400, 400, 400, 400, 400]
    assert caller.http.get("/prod/v2/balance").status_code == 500
    caller.plain.delete(f"{caller.sandbox.url}/sandbox/faults")
    assert caller.http.get("/prod/v2/balance").status_code == 200


def test_a_taken_port_or_an_unknown_fault_is_reported_at_once() -> None:
    """A sandbox that cannot start raises where it is entered."""
    with Sandbox() as first, pytest.raises(OSError), Sandbox(SandboxSettings(port=int(first.url.rpartition(":")[2]))):
        pass
    with pytest.raises(ConfigurationError, match="no fault"), Sandbox(SandboxSettings(faults=("none",))):
        pass


def test_methods_may_be_called_from_many_threads(caller: Any) -> None:
    """Concurrent submissions are each charged once, and all of them end."""
    many = [threading.Thread(target=caller.submitted, args=(f"x{number % 3}",)) for number in range(40)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()

    books = caller.sandbox.books()
    assert (
        books.submissions_accepted,
        books.usd_charged,
        len({entry.id for entry in books.requests}),
    ) == (40, 10.0, 40)
    for entry in books.requests:
        caller.ended(entry.id)
    assert caller.sandbox.books().succeeded == 40


def test_no_token_and_no_query_is_logged(caller: Any, image_host: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line for each call, without tokens and without signed queries; so has the ledger."""
    caplog.set_level("DEBUG", logger="runcomfy.sandbox")
    caller.finished(model=IMAGE_TO_VIDEO, image_url=f"{image_host}/picture.png?signature=good")

    assert "POST /v1/models" in caplog.text
    assert "sandbox-token" not in caplog.text
    assert "signature" not in caplog.text
    assert "signature" not in caller.sandbox.books().model_dump_json()


@pytest.mark.parametrize("prompt", ['"\\ud83d"', '"\\u0000 \\n"', '""', '"\\ud83d\\ude00 %s"' % ("long " * 2000)])
def test_any_text_is_a_prompt(caller: Any, prompt: str) -> None:
    """Half characters, control characters, nothing, very much text: all of it becomes a video and an entry."""
    answer = caller.http.post(f"/v1/models/{TEXT_TO_VIDEO}", content=f'{{"prompt": {prompt}}}').json()
    caller.ended(answer["request_id"])

    books = caller.plain.get(f"{caller.sandbox.url}/sandbox/books").json()
    assert [entry["state"] for entry in books["requests"]] == ["succeeded"]


def test_waiting_has_an_end(caller: Any) -> None:
    """wait_for_end gives up on a request that is held, and refuses one that is unknown."""
    caller.sandbox.hold()

    with pytest.raises(TimeoutError):
        caller.sandbox.wait_for_end(caller.submitted(), timeout_seconds=0)
    with pytest.raises(ConfigurationError):
        caller.sandbox.wait_for_end("none")


def test_a_stopped_sandbox_listens_no_longer(calling: Callable[[Sandbox], Any]) -> None:
    """A sandbox stops at once, in the middle of a run too, and its port is closed."""
    with Sandbox(SandboxSettings(run_seconds=60)) as sandbox:
        calling(sandbox).submitted()

    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.url, trust_env=False)


def test_the_ledger_has_the_most_polls_within_a_second(sandbox: Sandbox, caller: Any) -> None:
    """A rate limit can be checked; and connections are counted, however many calls each carried."""
    request_id = caller.submitted()
    before = sandbox.books()
    with httpx.Client(headers={"Authorization": f"Bearer {sandbox.token}"}) as client:
        for _ in range(20):
            client.get(f"{sandbox.url}/v1/requests/{request_id}/status").raise_for_status()

    books = sandbox.books()
    assert books.busiest_second == books.polls == 20
    assert books.connections - before.connections == 1


async def test_running_times_differ_as_the_spread_says_and_can_be_repeated() -> None:
    """Half of them are shorter than `run_seconds`; the same seed draws the same; a prompt's own directive wins."""

    async def never(job: Job) -> Recipe:
        raise AssertionError("nothing runs here")

    async def drawn(seed: int) -> list[float]:
        settings = SandboxSettings(run_seconds=100, run_spread=0.05, slots=1, seed=seed)
        queue = JobQueue(settings, never, lambda job: None)
        queue.hold(queue=True)
        jobs = [Job(TEXT_TO_VIDEO, {}, RequestOptions(run_seconds=7 if not n else None), []) for n in range(401)]
        for job in jobs:
            queue.accept(job)
        return [job.run_seconds for job in jobs]

    asked, *seconds = await drawn(1)

    assert asked == 7
    assert 95 < statistics.median(seconds) < 105
    assert 0.04 < statistics.pstdev(math.log(value) for value in seconds) < 0.06
    assert await drawn(1) == [7, *seconds] != await drawn(2)
