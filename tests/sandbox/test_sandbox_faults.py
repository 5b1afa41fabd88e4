from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.errors import ConfigurationError
from runcomfy.sandbox import FAULTS, Sandbox, SandboxSettings
from runcomfy.sandbox.defects import DEFECTS
from runcomfy.sandbox.fault_registry import directives_of, plain_prompt

IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"

WHOLE = sorted((name, at) for name, fault in FAULTS.items() if fault.kind in ("answer", "connection", "delay")
               for at in fault.endpoints)  # fmt: skip


def call(caller: Any, endpoint: str, request_id: str) -> httpx.Response:
    """Make one call of each kind; all but a submission are about the same finished request."""
    if endpoint == "output":
        return caller.plain.get(f"{caller.sandbox.url}/outputs/{request_id}/video-1.mp4")
    if endpoint in ("status", "result", "cancel"):
        return getattr(caller, endpoint)(request_id)
    return {"submit": caller.submit, "balance": lambda: caller.http.get("/prod/v2/balance"),
            "catalogue": lambda: caller.http.get("/v1/models")}[endpoint]()  # fmt: skip


@pytest.mark.parametrize(("name", "endpoint"), WHOLE)
def test_faults_of_whole_answers_strike_once_at_each_endpoint(caller: Any, name: str, endpoint: str) -> None:
    """An injected fault strikes its endpoint exactly once, with the answer that the catalogue promises."""
    fault = FAULTS[name]
    request_id, _ = caller.finished()
    accepted = caller.sandbox.books().submissions_accepted
    varied = {"seconds": 0.01} if fault.kind == "delay" else {}
    caller.sandbox.inject(
        name, endpoint=endpoint, request_id=request_id if fault.scope == "request" else None, **varied
    )

    if fault.kind == "connection":
        with pytest.raises(httpx.TransportError):
            call(caller, endpoint, request_id)
    else:
        answer = call(caller, endpoint, request_id)
    struck = caller.sandbox.books()

    if fault.kind == "answer":
        facts = fault.parameters
        assert facts["http_status"] == answer.status_code
        if facts["body"] == "error":
            assert (facts["error_code"] or facts["http_status"] * 1000) == answer.json()["error_code"]
        else:
            with pytest.raises(ValueError):
                answer.json()
        assert ("location" in facts) == answer.has_redirect_location
    assert struck.faults_struck == 1
    if endpoint == "submit":
        assert int(fault.parameters["after"]) == struck.submissions_accepted - accepted
    if fault.scope == "call":
        assert call(caller, endpoint, request_id).is_success
    else:
        assert not call(caller, endpoint, request_id).is_success


def output(caller: Any, name: str) -> Any:
    return caller.finished(f"x [sandbox: result={name}]")[1]["output"]


def queued_word(caller: Any, name: str) -> tuple[str, str]:
    caller.sandbox.hold()
    request_id = caller.submitted(f"x [sandbox: fault={name}]")
    return caller.status(request_id).json()["status"], caller.result(request_id).json()["status"]


def running_word(caller: Any, name: str) -> tuple[str, str]:
    caller.sandbox.hold(queue=False, runs=True)
    request_id = caller.submitted(f"x [sandbox: fault={name}]")
    return caller.status(request_id).json()["status"], caller.result(request_id).json()["status"]


def no_request_id(caller: Any) -> None:
    caller.sandbox.inject("no_request_id")
    assert caller.submit().json() == {}
    assert caller.sandbox.books().submissions_accepted == 1


def no_queue_position(caller: Any) -> None:
    caller.sandbox.hold()
    assert "queue_position" not in caller.status(caller.submitted("x [sandbox: status=no_queue_position]")).json()


def canceled(caller: Any) -> None:
    caller.sandbox.hold()
    request_id = caller.submitted("x [sandbox: fault=canceled]")
    said = [caller.cancel(request_id), caller.status(request_id), caller.result(request_id)]
    assert [answer.json()["status"] for answer in said] == ["canceled"] * 3


def upper_case(caller: Any) -> None:
    request_id, result = caller.finished("x [sandbox: fault=upper_case]")
    assert (caller.status(request_id).json()["status"], result["status"]) == ("COMPLETED", "SUCCEEDED")


def stuck_in_queue(caller: Any) -> None:
    stuck = caller.submitted("x [sandbox: status=stuck_in_queue]")
    caller.finished("another one passes it")
    assert tuple(caller.status(stuck).json()[name] for name in ("status", "queue_position")) == ("in_queue", 1)
    assert caller.cancel(stuck).json()["outcome"] == "cancelled"


def stuck_running(caller: Any) -> None:
    stuck = [caller.submitted("x [sandbox: status=stuck_running]") for _ in range(3)]
    caller.finished("another one finds a slot")
    assert [caller.status(one).json()["status"] for one in stuck] == ["in_progress"] * 3
    assert caller.cancel(stuck[0]).json()["outcome"] == "not_cancellable"


def failed(caller: Any) -> None:
    request_id, result = caller.finished("x [sandbox: result=failed]")
    assert (caller.status(request_id).json()["status"], result["status"]) == ("completed", "failed")
    assert result["error"]["type"] == "generation_failed"
    assert "output" not in result


def error_echoes_url(caller: Any) -> None:
    url = "http://127.0.0.1:9/a.png?X-Amz-Signature=secret"
    error = caller.finished("x [sandbox: result=error_echoes_url]", IMAGE_TO_VIDEO, image_url=url)[1]["error"]
    assert url in error["message"]
    assert url == error["inputs"]["image_url"]


def result_lags(caller: Any) -> None:
    request_id, lagging = caller.finished("x [sandbox: result=result_lags:times=2]")
    said = [lagging, caller.result(request_id).json(), caller.result(request_id).json()]
    assert [answer["status"] for answer in said] == ["in_progress", "in_progress", "succeeded"]
    assert ["output" in answer for answer in said] == [False, False, True]


def cost_late(caller: Any) -> None:
    request_id = caller.submitted("x [sandbox: result=cost_late:times=2]")
    caller.ended(request_id)
    costs = [caller.result(request_id, include_cost="true").json().get("cost") for _ in range(3)]
    assert costs == [None, None, 0.25]


def no_output(caller: Any) -> None:
    _, result = caller.finished("x [sandbox: result=no_output]")
    assert result["status"] == "succeeded"
    assert "output" not in result


def shape(name: str, urls_of: Callable[[Any], list[str]], count: int) -> Callable[[Any], None]:
    def check(caller: Any) -> None:
        files = [caller.plain.get(url) for url in urls_of(output(caller, name))]
        assert count == len({file.content for file in files})
        assert all(file.status_code == 200 for file in files)
        assert {"image/png" if name == "images" else "video/mp4"} == {file.headers["Content-Type"] for file in files}

    return check


def echoes_inputs(caller: Any) -> None:
    _, result = caller.finished("x [sandbox: result=echoes_inputs]", seed=7)
    assert result["input"]["seed"] == 7
    assert result["output"]["video"].endswith(".mp4")


def cancel_answer(name: str, **expected: Any) -> Callable[[Any], None]:
    def check(caller: Any) -> None:
        caller.sandbox.hold()
        request_id = caller.submitted(f"x [sandbox: cancel={name}]")
        answer = caller.cancel(request_id)
        assert answer.status_code == 202
        assert expected == {key: answer.json().get(key) for key in expected}
        assert caller.status(request_id).json()["status"] == "cancelled"

    return check


def broken_file(name: str, **parameters: Any) -> Callable[[Any], None]:
    def check(caller: Any) -> None:
        url = caller.video_url()
        whole = caller.plain.get(url)
        caller.sandbox.inject(name, **parameters)
        with pytest.raises(httpx.TransportError), caller.plain.stream("GET", url, timeout=0.5) as answer:
            assert str(len(whole.content)) == answer.headers["Content-Length"]
            answer.read()
        assert whole.content == caller.plain.get(url).content

    return check


def silent_cut(caller: Any) -> None:
    url = caller.video_url()
    whole = caller.plain.get(url).content
    for framing in ("chunked", "close"):
        caller.sandbox.inject("silent_cut", framing=framing)
        answer = caller.plain.get(url)
        assert "Content-Length" not in answer.headers
        assert whole[: len(whole) // 2] == answer.content


def cut_length(name: str, size_of: Callable[[int], int]) -> Callable[[Any], None]:
    def check(caller: Any) -> None:
        url = caller.video_url()
        whole = caller.plain.get(url).content
        caller.sandbox.inject(name)
        answer = caller.plain.get(url)
        assert (200, size_of(len(whole))) == (answer.status_code, len(answer.content))
        assert str(len(answer.content)) == answer.headers["Content-Length"]

    return check


def octet_stream(caller: Any) -> None:
    url = caller.video_url("x [sandbox: output=octet_stream]")
    first, second = caller.plain.get(url), caller.plain.get(url)
    assert [one.headers["Content-Type"] for one in (first, second)] == ["application/octet-stream", "video/mp4"]
    assert first.content == second.content


def remade(name: str, is_right: Callable[[bytes, bytes], bool]) -> Callable[[Any], None]:
    """Check a file that is served in another form, once."""

    def check(caller: Any) -> None:
        url = caller.video_url(f"x [sandbox: output={name}]")
        first, second = caller.plain.get(url), caller.plain.get(url)
        assert first.status_code == 200
        assert is_right(first.content, second.content)

    return check


def defect(name: str) -> Callable[[Any], None]:
    """Check a file that is served with a defect, each time the same."""

    def check(caller: Any) -> None:
        url, good = caller.video_url(f"x [sandbox: output={name}]"), caller.video_url("x")
        first, second = caller.plain.get(url), caller.plain.get(url)
        assert (first.status_code, first.headers["content-type"]) == (
            200, "image/jpeg" if name == "still" else "video/mp4",
        )  # fmt: skip
        assert first.content == second.content != caller.plain.get(good).content

    return check


def null_output(caller: Any) -> None:
    assert output(caller, "null_output") is None


def words(name: str, read: Callable[[Any, str], tuple[str, str]]) -> Callable[[Any], None]:
    def check(caller: Any) -> None:
        assert (name, name) == read(caller, name)

    return check


def beside(name: str, expected: dict[str, Any]) -> Callable[[Any], None]:
    """Check the fields of a result under a fault, `None` for one that is not there."""

    def check(caller: Any) -> None:
        _, result = caller.finished(f"x [sandbox: result={name}]")
        assert expected == {
            field: result.get(field) and (result[field] if field != "output" else "there") for field in expected
        }

    return check


def late(name: str, status: str) -> Callable[[Any], None]:
    """Check a result whose output is missing for two reads."""

    def check(caller: Any) -> None:
        request_id, first = caller.finished(f"x [sandbox: result={name}:times=2]")
        said = [first, caller.result(request_id).json(), caller.result(request_id).json()]
        assert [(answer["status"], "output" in answer) for answer in said] == [
            (status, False), (status, False), ("succeeded", True),
        ]  # fmt: skip

    return check


def echo(name: str, urls: Callable[[Any], list[str]]) -> Callable[[Any], None]:
    """Check an output that repeats the image that was submitted."""

    def check(caller: Any) -> None:
        image = caller.finished("picture [sandbox: result=images]")[1]["output"]["images"][0]
        found = caller.finished(f"x [sandbox: result={name}]", IMAGE_TO_VIDEO, image_url=image)[1]["output"]
        first, *files = urls(found)
        assert first == image
        assert all(caller.plain.get(url).headers["Content-Type"] == "video/mp4" for url in files)

    return check


def unknown_end(caller: Any) -> None:
    request_id, result = caller.finished("x [sandbox: status=unknown_end]")
    assert (caller.status(request_id).json()["status"], result["status"]) == ("wrapped_up", "succeeded")


def blanks(caller: Any) -> None:
    request_id, result = caller.finished("x [sandbox: fault=blanks]")
    assert (caller.status(request_id).json()["status"], result["status"]) == (" Completed ", " Succeeded")


def no_url_in_output(caller: Any) -> None:
    assert output(caller, "no_url_in_output") == {"video": 7, "state": "lost"}


def odd_url(caller: Any) -> None:
    url = output(caller, "odd_url")["video"]
    assert url.startswith(" HTTP:") and url.endswith("\n")
    assert caller.plain.get(url.strip()).status_code == 200


CHECKS: dict[str, Callable[[Any], None]] = {
    "audio": shape("audio", lambda found: [found["audio"]], 1),
    "audios": shape("audios", lambda found: found["audios"], 1),
    "blanks": blanks,
    "completed_early": late("completed_early", "completed"),
    "completed_result": beside("completed_result", {"status": "completed", "output": "there"}),
    "echo_in_output": echo("echo_in_output", lambda found: [found["image"], found["video"]]),
    "echo_under_odd_name": echo("echo_under_odd_name", lambda found: [found["start"], found["clip"]]),
    "failed_with_code": beside("failed_with_code", {"status": "failed", "error_code": 400002, "output": None}),
    "in_a_text": shape("in_a_text", lambda found: [found.removeprefix("Your video is at ").removesuffix(".")], 1),
    "json_text": shape("json_text", lambda found: [json.loads(found)["video"]], 1),
    "nested": shape("nested", lambda found: [found["video"]["url"]], 1),
    "no_url_in_output": no_url_in_output,
    "object_list": shape("object_list", lambda found: [video["url"] for video in found["videos"]], 1),
    "odd_url": odd_url,
    "only_an_echo": echo("only_an_echo", lambda found: [found["image"]]),
    "output_late": late("output_late", "succeeded"),
    "page_beside": shape("page_beside", lambda found: [found["assets"][1]["href"]], 1),
    "path": shape("path", lambda found: [found["path"]], 1),
    "starting": words("starting", running_word),
    "succeeded_with_error": beside("succeeded_with_error", {"error_code": 500123, "output": "there"}),
    "unknown_end": unknown_end,
    "unknown_names": shape("unknown_names", lambda found: [found["assets"][0]["href"]], 1),
    "url": shape("url", lambda found: [found["url"]], 1),
    "waiting": words("waiting", queued_word),
    "bare_url": shape("bare_url", lambda found: [found], 1),
    "cancel_lies": cancel_answer("cancel_lies", outcome="not_cancellable"),
    "cancel_says_completed": cancel_answer("cancel_says_completed", status="completed", outcome="cancelled"),
    "canceled": canceled,
    "cost_late": cost_late,
    "echoes_inputs": echoes_inputs,
    "changed": remade("changed", lambda file, whole: file.startswith(whole) and len(file) == len(whole) + 16),
    "damaged": remade("damaged", lambda file, whole: len(file) == len(whole) and file != whole),
    "glued": remade("glued", lambda file, whole: file == whole + bytes(16)),
    "packed": remade("packed", lambda file, whole: file == whole),  # unpacked by the reader
    "remuxed": remade("remuxed", lambda file, whole: file.startswith(b"\x1a\x45\xdf\xa3")),
    "empty": cut_length("empty", lambda whole: 0),
    "error_echoes_url": error_echoes_url,
    "failed": failed,
    "images": shape("images", lambda found: found["images"], 1),
    "no_outcome": cancel_answer("no_outcome", outcome=None),
    "no_output": no_output,
    "no_queue_position": no_queue_position,
    "no_request_id": no_request_id,
    "null_output": null_output,
    "octet_stream": octet_stream,
    "pending": words("pending", queued_word),
    "processing": words("processing", running_word),
    "reset_halfway": broken_file("reset_halfway"),
    "result_lags": result_lags,
    "several_files": shape("several_files", lambda found: [found["video"], *found["videos"]], 3),
    "silent_cut": silent_cut,
    "stall": broken_file("stall"),
    "stuck_in_queue": stuck_in_queue,
    "stuck_running": stuck_running,
    "truncated": broken_file("truncated"),
    "upper_case": upper_case,
    "url_list": shape("url_list", lambda found: found, 1),
    "videos": shape("videos", lambda found: found["videos"], 1),
    "warming_up": words("warming_up", running_word),
    "wrong_length": cut_length("wrong_length", lambda whole: whole // 2),
    **{name: defect(name) for name in sorted(DEFECTS)},
}


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {name for name, _ in WHOLE}))
def test_every_other_fault_does_what_it_says(caller: Any, name: str) -> None:
    """Each fault of the catalogue is provoked; one without a check fails here, so that none is forgotten."""
    CHECKS[name](caller)


def test_retry_after_comes_as_seconds_or_as_a_date(caller: Any) -> None:
    """A 429 carries Retry-After only when asked, in either of the two forms that HTTP knows."""
    caller.sandbox.inject("http_429", endpoint="balance")
    caller.sandbox.inject("http_429", endpoint="balance", retry_after=3)
    caller.sandbox.inject("http_429", endpoint="balance", retry_after=3, as_date=True)

    found = [caller.http.get("/prod/v2/balance").headers.get("Retry-After") for _ in range(3)]

    assert found[:2] == [None, "3"]
    assert parsedate_to_datetime(found[2]).tzinfo is not None


@pytest.mark.parametrize("name", ["http_500", "http_504", "reset", "closed", "html", "redirect"])
def test_a_submission_can_fail_after_it_was_accepted(caller: Any, name: str) -> None:
    """With after=true the submission is accepted and charged, and the client does not learn it."""
    caller.sandbox.inject(name, endpoint="submit", after=True)
    with contextlib.suppress(httpx.TransportError):
        assert "request_id" not in caller.submit().text

    assert (caller.sandbox.books().submissions_accepted, caller.sandbox.books().usd_charged) == (1, 0.25)


@pytest.mark.parametrize("endpoint", ["submit", "status", "result", "cancel", "output", "balance", "catalogue"])
def test_a_refusal_before_the_work_changes_nothing(caller: Any, endpoint: str) -> None:
    """A fault that comes before the work leaves the request as it was."""
    caller.sandbox.hold()
    request_id = caller.submitted()
    before = caller.sandbox.books()
    caller.sandbox.inject("http_503", endpoint=endpoint)

    call(caller, endpoint, request_id)

    after = caller.sandbox.books()
    assert (before.requests, before.usd_charged) == (after.requests, after.usd_charged)


def test_a_redirect_can_lead_to_another_host(caller: Any) -> None:
    """The location of a redirect is a parameter; `{path}` in it is the path that was asked for."""
    url = caller.video_url()
    caller.sandbox.inject("redirect", endpoint="output", http_status=302, location="https://elsewhere.invalid{path}")

    answer = caller.plain.get(url)

    assert answer.status_code == 302
    assert "https://elsewhere.invalid" + httpx.URL(url).path == answer.headers["Location"]


def test_random_faults_repeat_with_their_seed() -> None:
    """The same seed draws the same faults again, another seed draws others."""

    def drawn(seed: int) -> list[int]:
        settings = SandboxSettings(faults=("http_503:balance=0.5",), seed=seed)
        with Sandbox(settings) as sandbox, httpx.Client(base_url=sandbox.url, trust_env=False) as http:
            headers = {"Authorization": f"Bearer {sandbox.token}"}
            return [http.get("/prod/v2/balance", headers=headers).status_code for _ in range(40)]

    first = drawn(1)

    assert {200, 503} == set(first)
    assert first == drawn(1)
    assert first != drawn(2)


def test_faults_of_requests_are_drawn_at_acceptance(caller: Any) -> None:
    """A fault of scope `request` with times=1 strikes one request, and that one at every read."""
    caller.sandbox.inject("failed", times=1)
    first, second = caller.submitted("one"), caller.submitted("two")
    for request_id in (first, second):
        caller.ended(request_id)

    states = [caller.result(request_id).json()["status"] for request_id in (first, first, second)]

    assert states == ["failed", "failed", "succeeded"]


def test_directives_set_durations_and_do_not_show(caller: Any) -> None:
    """A directive can hold its own request in the queue; the prompt that is rendered comes without it."""
    request_id = caller.submitted("x [sandbox: queue_seconds=1000]")
    caller.finished("another one passes it")

    assert caller.status(request_id).json()["status"] == "in_queue"
    assert plain_prompt("a cat [sandbox: result=failed] on a roof") == "a cat on a roof"


@given(st.text())
def test_any_prompt_is_either_understood_or_refused(text: str) -> None:
    """Whatever is in a directive, reading it gives faults or a ConfigurationError, nothing else."""
    for prompt in (text, f"[sandbox: {text}]", f"[sandbox: status={text}]", f"[sandbox: status=http_503:{text}=1]"):
        with contextlib.suppress(ConfigurationError):
            directives_of(prompt)
