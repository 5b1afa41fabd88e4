"""The catalogue of faults: what can go wrong on demand, as data.

A fault of scope `call` is drawn at each call that it may strike; one of scope `request` is drawn once, when a
submission is accepted, and from then on belongs to that request. What a fault does follows from its kind:

- `answer`: another HTTP answer, before (`after=false`) or after the call did its work (`after=true`)
- `connection`: no answer at all, before or after the call did its work
- `delay`: the right answer, late
- `body`: the right answer, with fields set, dropped or spelled differently
- `job`: what happens to the request itself
- `file`: how an output is served
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ENDPOINTS", "FAULTS", "Fault"]

ENDPOINTS = ("submit", "status", "result", "cancel", "output", "balance", "catalogue")

_API = tuple(name for name in ENDPOINTS if name != "output")
_READS = ("status", "result")
_WORDS = ("status", "result", "cancel")
_FINISHED = ("succeeded", "failed")


@dataclass(frozen=True)
class Fault:
    """One thing that can go wrong: where, what it does (`effect`), and what may be varied (`parameters`)."""

    name: str
    about: str
    kind: Literal["answer", "connection", "delay", "body", "job", "file"]
    endpoints: tuple[str, ...]
    effect: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scope: Literal["call", "request"] = "call"


def _answer(name: str, about: str, endpoints: tuple[str, ...] = ENDPOINTS, **parameters: Any) -> Fault:
    defaults = {"after": False, "body": "error", "error_code": None, "retry_after": None, "as_date": False}
    return Fault(name, about, "answer", endpoints, {}, defaults | parameters)


def _body(name: str, about: str, endpoints: tuple[str, ...], scope: Literal["call", "request"], **effect: Any) -> Fault:
    return Fault(name, about, "body", endpoints, effect, {}, scope)


def _output(name: str, about: str, value: Any) -> Fault:
    return _body(name, about, ("result",), "request", only=("succeeded",), set={"output": value})


def _word(name: str, about: str, **words: str) -> Fault:
    return _body(name, about, _WORDS, "request", words=words)


def _job(name: str, about: str, endpoint: str, **effect: Any) -> Fault:
    return Fault(name, about, "job", (endpoint,), effect, {}, "request")


def _file(name: str, about: str, how: str, **parameters: Any) -> Fault:
    return Fault(name, about, "file", ("output",), {"how": how}, parameters)


def _defect(name: str, about: str, **parameters: Any) -> Fault:
    return Fault(name, about, "file", ("output",), {"how": name}, parameters, "request")


_STATUSES = {
    400: "the call is refused", 401: "the token is refused", 402: "payment is required", 403: "access is refused",
    404: "nothing is found", 408: "the service gave up on reading the call", 409: "the call is in conflict",
    422: "the inputs are refused", 429: "too many calls", 500: "the service broke", 502: "a gateway has no answer",
    503: "the service is overloaded", 504: "a gateway waited too long",
}  # fmt: skip
_CODES = {
    400001: (400, "the model id is unknown"), 400002: (400, "the account has no balance"),
    400004: (401, "the token or the account is refused"), 403001: (403, "the request is another user's"),
    404001: (404, "the request is unknown, deleted or expired"),
}  # fmt: skip

_ALL = (
    *(_answer(f"http_{status}", f"HTTP {status}: {about}", http_status=status,
                body="none" if status >= 500 else "error")
      for status, about in _STATUSES.items()),
    *(_answer(f"error_{code}", f"error code {code}: {about}", _API, http_status=status, error_code=code)
      for code, (status, about) in _CODES.items()),
    _answer("proxy", "HTTP `http_status` from something on the way: its `body` is not the service's error", _API,
            http_status=403, body="html"),
    _answer("error_in_200", "HTTP 200 whose body is an error", _API, http_status=200, error_code=400002),
    _answer("html", "an HTML page with HTTP 200", http_status=200, body="html"),
    _answer("not_json", "HTTP 200 whose body is not JSON", _API, http_status=200, body="text", after=True),
    _answer("redirect", "a redirect, to the same path of this server unless `location` says otherwise",
            http_status=307, body="none", location="{url}{path}?redirected=1"),
    Fault("expired", "the request is no longer known: HTTP 404 with error code 404001", "answer", _WORDS, {},
          {"after": False, "body": "error", "http_status": 404, "error_code": 404001}, "request"),
    Fault("reset", "the connection is reset (RST)", "connection", ENDPOINTS, {"how": "reset"}, {"after": False}),
    Fault("closed", "the connection is closed without an answer", "connection", ENDPOINTS, {"how": "close"},
          {"after": False}),
    Fault("lost_answer", "the call does its work, then the connection is closed without an answer", "connection",
          _API, {"how": "close"}, {"after": True}),
    Fault("slow", "the call does its work, then the answer comes `seconds` late", "delay", ENDPOINTS, {},
          {"after": True, "seconds": 5.0}),
    _body("no_request_id", "an accepted submission is answered without its request id", ("submit",), "call",
          drop=("request_id", "status_url", "result_url", "cancel_url")),
    _body("no_queue_position", "a queued request has no position", ("status",), "request", drop=("queue_position",)),
    _word("canceled", "`cancelled` is spelled `canceled`", cancelled="canceled"),
    _word("pending", "`in_queue` is called `pending`", in_queue="pending"),
    _word("processing", "`in_progress` is called `processing`", in_progress="processing"),
    _word("waiting", "`in_queue` is called `waiting`", in_queue="waiting"),
    _word("starting", "`in_progress` is called `starting`", in_progress="starting"),
    _word("blanks", "states have capitals and blanks", in_queue=" In Queue", in_progress="In Progress ",
          completed=" Completed ", cancelled="Cancelled\n", succeeded=" Succeeded", failed="Failed "),
    _word("warming_up", "`in_progress` is called by an unknown word", in_progress="warming_up"),
    _word("upper_case", "states are in upper case", in_queue="IN_QUEUE", in_progress="IN_PROGRESS",
          completed="COMPLETED", cancelled="CANCELLED", succeeded="SUCCEEDED", failed="FAILED"),
    _body("unknown_end", "`completed` is called by an unknown word", ("status",), "request",
          words={"completed": "wrapped_up"}),
    _job("stuck_in_queue", "the request never leaves the queue; it can be cancelled", "status", stuck="queue"),
    _job("stuck_running", "the request never ends running; it gives its slot back", "status", stuck="run"),
    _job("failed", "`completed`, then the result says `failed`", "result",
         error={"type": "generation_failed", "message": "The sandbox was told to fail."}),
    _job("error_echoes_url", "failed, and the error quotes the whole signed image URL", "result",
         error={"type": "generation_failed", "message": "Could not use $image_url", "inputs": "$inputs"}),
    _body("result_lags", "the result says `in_progress` after the status said `completed`, `times` reads long",
          ("result",), "call", only=_FINISHED, set={"status": "in_progress"}, drop=("output", "error", "finished_at")),
    _body("completed_result", "the result says `completed`, with its output", ("result",), "request",
          only=("succeeded",), set={"status": "completed"}),
    _body("completed_early", "the result says `completed`, without an output, `times` reads long", ("result",), "call",
          only=("succeeded",), set={"status": "completed"}, drop=("output",)),
    _body("output_late", "succeeded, without an output, `times` reads long", ("result",), "call", only=("succeeded",),
          drop=("output",)),
    _body("succeeded_with_error", "succeeded, with an error code beside the output", ("result",), "request",
          only=("succeeded",), set={"error_code": 500123, "error_message": "The sandbox was told to warn."}),
    _body("failed_with_code", "the result says `failed`, with an error code beside it", ("result",), "request",
          only=("succeeded",), set={"status": "failed", "error_code": 400002, "error_message": "The sandbox says no."},
          drop=("output",)),
    _body("no_output", "succeeded, without an output", ("result",), "request", only=("succeeded",), drop=("output",)),
    _output("null_output", "succeeded, and the output is null", None),
    _output("bare_url", "the output is one bare URL", "$1"),
    _output("url_list", "the output is a list of URLs", ["$1"]),
    _output("videos", "the output is an object with a list of videos", {"videos": ["$1"]}),
    _output("images", "the output is an object with images, no video", {"images": ["$image"]}),
    _output("audio", "the output is an object with one URL under `audio`", {"audio": "$1"}),
    _output("audios", "the output is an object with a list under `audios`", {"audios": ["$1"]}),
    _output("url", "the output is an object with one `url`", {"url": "$1"}),
    _output("path", "the output is an object with one `path`", {"path": "$1"}),
    _output("nested", "the video is an object with a `url`", {"video": {"url": "$1", "content_type": "video/mp4"}}),
    _output("object_list", "the videos are objects, each with a `url`", {"videos": [{"url": "$1"}]}),
    _output("unknown_names", "the output names its file in an undocumented way", {"assets": [{"href": "$1"}]}),
    _output("page_beside", "as above, and a page that is no file has such a name as well",
            {"assets": [{"page": "https://www.runcomfy.com/"}, {"href": "$1"}]}),
    _output("in_a_text", "the output is a sentence with the URL in it", "Your video is at $1."),
    _output("json_text", "the output is a text that is JSON", '{"video": "$1"}'),
    _output("odd_url", "the URL has blanks round it, and its scheme in capitals", {"video": " $CAPITALS\n"}),
    _output("echo_in_output", "the output repeats the image beside the video", {"image": "$image_url", "video": "$1"}),
    _output("echo_under_odd_name", "as above, and the video has an unknown name",
            {"start": "$image_url", "clip": "$1"}),
    _output("only_an_echo", "the output repeats the image, and there is nothing else", {"image": "$image_url"}),
    _output("no_url_in_output", "the output has no URL in it", {"video": 7, "state": "lost"}),
    _output("several_files", "the output names three different videos", {"video": "$1", "videos": ["$2", "$3"]}),
    _body("echoes_inputs", "the result repeats the inputs, image URL included, beside its output", ("result",),
          "request", set={"input": "$inputs"}),
    _body("cost_late", "the cost is missing, `times` reads long", ("result",), "call", only=_FINISHED, drop=("cost",)),
    _body("cancel_says_completed", "a cancel answers `status: completed, outcome: cancelled`", ("cancel",), "call",
          set={"status": "completed", "outcome": "cancelled"}),
    _body("cancel_lies", "a cancel says `not_cancellable`, though it did cancel what was queued", ("cancel",), "call",
          set={"status": "in_progress", "outcome": "not_cancellable"}),
    _body("no_outcome", "a cancel is answered without its outcome", ("cancel",), "call", drop=("outcome",)),
    _file("truncated", "the connection is closed before the Content-Length is reached", "close", fraction=0.5),
    _file("silent_cut", "no Content-Length, and a clean end too early; `framing` is `chunked` or `close`", "end",
          fraction=0.5, framing="chunked"),
    _file("reset_halfway", "the connection is reset in the middle of the file", "reset", fraction=0.5),
    _file("wrong_length", "the Content-Length is `fraction` of the file's size", "length", fraction=0.5),
    _file("empty", "HTTP 200 with zero bytes", "length", fraction=0.0),
    _file("stall", "nothing more comes after a part of the file, for `seconds`", "stall", fraction=0.5, seconds=3600.0),
    _file("octet_stream", "the whole file, as application/octet-stream", "type"),
    _file("damaged", "zeros where the frames should be, and the right length", "damaged"),
    _file("glued", "the whole file, and `bytes` zeros behind it", "glued", bytes=16),
    _file("packed", "the whole file with `Content-Encoding: gzip`, which was not asked for", "packed"),
    _file("remuxed", "the same video in another `container`: `matroska`, `mpegts` or `mov`", "remuxed",
          container="matroska"),
    _file("changed", "the same video in other bytes at each call", "changed"),
    _defect("black", "a whole file that is black"),
    _defect("frozen", "a video in which nothing moves"),
    _defect("blurred", "a video that is blurred, if it has 240 lines or more"),
    _defect("damaged_after", "a file whose bytes are zeros from `percent` of it on, at each call", percent=40),
    _defect("silent", "a sound, or a video with a sound, that is silent"),
    _defect("clipped", "a sound, or a video with a sound, that is far too loud"),
    _defect("wrong_size", "a video or an image of half the width and height"),
    _defect("still", "a JPEG where a video was asked for"),
)  # fmt: skip

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
"""Every fault by its name."""
