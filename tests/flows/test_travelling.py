"""Blocks in other processes and in Prefect's storage: without their secrets, and still working."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import pickle
import re
import subprocess
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.context import serialize_context
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import SecretStr, ValidationError

from blocks import MediaStore, RunComfyCredentials
from runcomfy.errors import ConfigurationError
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import PrefectServer

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-a-test-4711"
SECRET = "secret-of-a-test-0815"


def unsaved(token: str = TOKEN) -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr(token), calls_per_second=7)


def keys() -> AwsCredentials:
    return AwsCredentials(aws_access_key_id="AKIA", aws_secret_access_key=SecretStr(SECRET), region_name="eu-west-1")


def store(credentials: Any = None) -> MediaStore:
    return MediaStore(bucket="videos", prefix="a", credentials=credentials)


def saved(block: Any) -> Any:
    """Return the block as it comes from Prefect."""
    name = f"b{uuid.uuid4().hex}"
    block.save(name, _sync=True)
    return type(block).load(name, _sync=True)


def sent(block: Any) -> Any:
    """Pickle it as for another process, and make sure that no secret goes with it."""
    for library in (pickle, cloudpickle):
        pickled = library.dumps(block)
        assert TOKEN.encode() not in pickled and SECRET.encode() not in pickled
    return pickle.loads(pickled)


def test_a_saved_account_is_loaded_again_where_it_arrives() -> None:
    """With the values that were set since, and the token of its document; from there it may be sent on."""
    arrived = sent(sent(saved(unsaved()).model_copy(update={"calls_per_second": 9.0})))

    assert sent(arrived.model_copy(deep=True)).model_copy().api_token.get_secret_value() == TOKEN
    assert arrived.api_token.get_secret_value() == TOKEN and arrived.calls_per_second == 9.0
    assert arrived == RunComfyCredentials.load(arrived._block_document_name, _sync=True).model_copy(
        update={"calls_per_second": 9.0}
    )


def test_an_account_of_the_environment_is_that_of_the_environment_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, it is refused for that."""
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", TOKEN)
    assert sent(unsaved()).api_token.get_secret_value() == TOKEN
    pickled = pickle.dumps(unsaved())
    monkeypatch.delenv("RUNCOMFY_API_TOKEN")

    with pytest.raises(ConfigurationError, match="RUNCOMFY_API_TOKEN"):
        pickle.loads(pickled).get_client()


# Of the environment's token, and of a store without credentials; compressed, in base 85.
EARLIER_ACCOUNT = (
    "c-mc2Jxc>Y5RD)jH4%-1g?}JgB*sRt5-h|fg4Qx@_BP()-tMs<!7Bu9v>8yy_<MD7#t@vT_RX7lGjCs3zrI%*b>QL1IQbZQK3VCCaRt(="
    "OxdV~34~1$-s_3VXi9kl_imHDoUtyKNK<;IE;Aw1G6K}E4N+={?onC7?Xt=Qb7e19rQ)F*cZx;gUG&_0^vVs`hEQWL5hf|Z&ErK-7-4fH"
    "f`a4?VJDBVJn#1hr)Rwr&cXSBu;o%LQ-s`w80elQ7G)B+E1i|edu3$>Mi)8~HVAj5FeX5${7l^0jIJ)Oe_ct~0r*=R)Km1LJ`4|*;IURF"
    "3*0+9`h&W8CvWCEpSZuoDcL*`)!da1)Mi8GWGdJ`&>0Px{|~jIP>i=h2N2fTs&FYV&|*m+;@sCEu7mUXL9@lX^H1bGC(0OY9|+fOev4DW"
    "EoCR#J3E_B!{Ix<Qc7=hOT8Z-smV3"
)
EARLIER_STORE = (
    "c-mc&&2AGx498PcrRfI<(n@gV)Cv(E1hEHr0BbViWKDKwmiZ`&qLnxy4wi~k^Co>jysIF!%*pe&E&KoTkK;e@o=wKb^JNq4CM{ZYWFX}b"
    "QFsO>M!H2O_fk*z?9-6^GUo23muoEmM>YeDzv;5r4QAo#EjbKHgD&EVw!%l9@VSlX&}TADl8P_TyDpH=P+}uI5x(rovLOpk67>r{kGQ7b"
    "!J8I`|4ZXs#FWUdb<<s=n;x5zgN`uK*19lka3}nB-v)<G|6w2TTfvlpT>pMg-r=@i>~WiW;a9DR8!!ZG^cYQ6v%h$5gLjm5sA=GPq>M?`"
    "ldqvfRivKrn?nqp$%Nh_BpjNOe0(T82k3Urs8@Bf&C!g6`1K=sMcBBcT?4&4xvtOZ*>ApjRM9DV-RA&z4&#Nu1zTFBs9qG})&J_qsN&~9"
    "35*YZ*M>6Co*r&m>COJxsQ46G;}BLM%8gD~QB+7z&vXJI(we+frTmo7viJ)%S>k*"
)


def test_blocks_that_an_earlier_version_sent_are_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders wait in queues and workers are upgraded one after the other: the names in such a pickle stay."""
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", TOKEN)

    account, videos = (
        pickle.loads(zlib.decompress(base64.b85decode(each))) for each in (EARLIER_ACCOUNT, EARLIER_STORE)
    )

    assert account.api_token.get_secret_value() == TOKEN and account.base_url == "http://127.0.0.1:1"
    assert (videos.bucket, videos.prefix) == ("videos", "p")


@pytest.mark.parametrize(
    "credentials",
    [
        keys,
        lambda: MinIOCredentials(minio_root_user="root", minio_root_password=SecretStr(SECRET)),
        lambda: AwsCredentials(profile_name="p", aws_session_token=SECRET),
    ],
)
def test_a_block_that_cannot_be_looked_up_is_refused(credentials: Callable[[], Any]) -> None:
    """The error says what works, and has no secret in it."""
    account, changed = (
        unsaved(),
        saved(unsaved("another-token-0000")).model_copy(update={"api_token": SecretStr(TOKEN)}),
    )
    for block in (account, changed, store(credentials()), {"nested": [account]}):
        with pytest.raises(ConfigurationError, match=r"\.save\(.*\.load\(") as refused:
            cloudpickle.dumps(block)
        assert TOKEN not in str(refused.value) and SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "secret"),
    [
        (lambda: store(), None),
        (lambda: store(AwsCredentials(region_name="eu-west-1")), None),
        (lambda: store(saved(keys())), SECRET),
        (lambda: saved(store(keys())), SECRET),
        (lambda: saved(store(saved(keys()))), SECRET),
    ],
    ids=["no credentials", "no keys", "saved credentials", "saved with keys", "both saved"],
)
def test_a_store_travels(make: Callable[[], MediaStore], secret: str | None) -> None:
    """Also after its client was created, which cannot be pickled; only its credentials are looked up."""
    original = make().model_copy(update={"prefix": "b"})
    original.get_store()
    arrived = sent(sent(original))

    assert arrived.get_store().bucket == "videos" and arrived.prefix == "b"
    key = getattr(arrived.credentials, "aws_secret_access_key", None)
    assert (key.get_secret_value() if key else None) == secret


def test_copies_in_the_same_process_keep_the_secrets() -> None:
    """A copy does not leave the process."""
    account, kept = unsaved(), store(keys())
    for copied in (account.model_copy(), account.model_copy(deep=True), copy.copy(account), copy.deepcopy(account)):
        assert copied.api_token.get_secret_value() == TOKEN
    for copied in (kept.model_copy(), kept.model_copy(deep=True), copy.copy(kept), copy.deepcopy(kept)):
        assert copied.credentials.aws_secret_access_key.get_secret_value() == SECRET


def test_a_masked_token_is_not_used_as_a_token() -> None:
    """A block that is a parameter of a deployment's run, and not saved, arrives with its token masked."""
    with pytest.raises(ValidationError, match="Save the block"):
        RunComfyCredentials.model_validate(unsaved().model_dump(mode="json"))


def test_the_context_of_a_flow_has_no_secrets() -> None:
    """Prefect sends the flow's parameters along with a task, "with secrets"."""

    @flow
    def somewhere(account: RunComfyCredentials, media: MediaStore) -> dict[str, Any]:
        return serialize_context()["flow_run_context"]["parameters"]

    parameters = somewhere(unsaved(), store(AwsCredentials(aws_session_token=SECRET, **dict_of(keys()))))

    assert parameters["media"]["bucket"] == "videos"
    assert TOKEN not in repr(parameters) and TOKEN.encode() not in pickle.dumps(parameters)
    assert SECRET not in repr(parameters) and SECRET.encode() not in pickle.dumps(parameters)


def dict_of(credentials: AwsCredentials) -> dict[str, Any]:
    return {"aws_access_key_id": credentials.aws_access_key_id, "aws_secret_access_key": SecretStr(SECRET)}


def decoded(content: bytes) -> Iterator[bytes]:
    """Return the content, and all base64 in it, decoded: Prefect writes pickles into JSON that way."""
    yield content
    for text in re.findall(rb"[A-Za-z0-9+/=]{24,}", re.sub(rb"\\\\n|\\n|\s", b"", content)):
        with contextlib.suppress(ValueError):
            yield base64.b64decode(text + b"=" * (-len(text) % 4))


def assert_nowhere(folder: Path, *secrets: str) -> int:
    """Search every file below a folder, and return how many there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        for text in decoded(path.read_bytes()):
            for secret in secrets:
                assert secret.encode() not in text, path
    return len(files)


def test_the_search_finds_a_secret_that_prefect_stored(tmp_path: Path) -> None:
    """The search itself: a pickle with a secret, as Prefect would write it."""
    (tmp_path / "a").write_text(json.dumps({"result": base64.encodebytes(pickle.dumps({"a": TOKEN * 9})).decode()}))

    with pytest.raises(AssertionError):
        assert_nowhere(tmp_path, TOKEN)


def test_persisted_results_and_cache_keys_have_no_secrets(tmp_path: Path) -> None:
    """Of a user's task that takes a block and returns one."""

    @task(persist_result=True, cache_policy=INPUTS, result_storage_key="{parameters[name]}")
    def chosen(account: RunComfyCredentials, name: str) -> RunComfyCredentials:
        return account

    @flow(persist_result=True)
    def choosing(account: RunComfyCredentials, other: RunComfyCredentials) -> RunComfyCredentials:
        chosen(other, "other")  # Prefect warns that this result could not be persisted
        return chosen(account, "account")

    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        result = choosing(saved(unsaved()), unsaved())

    assert result.api_token.get_secret_value() == TOKEN
    assert assert_nowhere(tmp_path, TOKEN) >= 1


# What a user has: a task worker, and a program that submits to it, each in a process of its own.
WORKER = """
from prefect.task_worker import serve
from tasks import archive_outputs, stage_image, submit_request, wait_for_result
serve(stage_image, submit_request, wait_for_result, archive_outputs)
"""
CALLER = """
import os, traceback
from prefect import flow
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from blocks import MediaStore, RunComfyCredentials
from runcomfy.models import IMAGE_TO_VIDEO, ImageToVideo
from tasks import archive_outputs, stage_image, submit_request, wait_for_result

env = os.environ
account = RunComfyCredentials(api_token=env["TOKEN"], base_url=env["URL"], output_hosts=[env["HOST"]])
keys = AwsCredentials(aws_access_key_id=env["KEY"], aws_secret_access_key=env["SECRET"], region_name="us-east-1",
    aws_client_parameters=AwsClientParameters(endpoint_url=env["ENDPOINT"]))
store = MediaStore(bucket="videos", prefix=env["PREFIX"], credentials=keys)
account.model_copy().save("account")
keys.model_copy().save("keys")
saved = RunComfyCredentials.load("account")
saved_store = store.model_copy(update={"credentials": AwsCredentials.load("keys")})

PICTURE = env["PICTURE"]  # a flow of `__main__` is pickled with the globals that it uses: not with the environment

def done(future):
    future.wait(timeout=300)
    return future.state.result()

@flow
def handing_over(account, store):
    image = done(stage_image.delay(PICTURE, store))
    inputs = ImageToVideo(prompt="rain", image_url=image.uri)
    submission = done(submit_request.delay(inputs, account, store, image=image))
    result = done(wait_for_result.delay(submission, account, store))
    return done(archive_outputs.delay(result, account, store, model_id=IMAGE_TO_VIDEO, submission=submission))

for pair in ((account, saved_store), (saved, store)):
    try:
        handing_over(*pair)
    except Exception:  # Prefect wraps it: a SerializationError
        print("refused" if 'block.save("NAME")' in traceback.format_exc() else traceback.format_exc())
print("archived", len(handing_over(saved, saved_store)))
"""


@pytest.mark.slow
def test_a_delayed_generation_leaves_no_token_anywhere(
    sandbox: Sandbox, object_store: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    """`.delay()` to a real task worker: one payment, one archive; Prefect's database and storage hold no secret."""
    home = tmp_path / "prefect"
    home.mkdir()
    with PrefectServer.started(home) as server:
        environment = server.environment | {
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "TOKEN": sandbox.token,
            "URL": sandbox.url,
            "HOST": sandbox.host,
            "KEY": object_store.access_key,
            "SECRET": object_store.secret_key,
            "ENDPOINT": object_store.endpoint_url,
            "PREFIX": prefix,
            "PICTURE": str(ROOT / "deployments" / "demo.jpg"),
        }
        secrets = {name: environment.pop(name) for name in ("TOKEN", "SECRET")}
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                called = subprocess.run(
                    [sys.executable, "-c", CALLER], cwd=ROOT, env=environment | secrets, capture_output=True, text=True,
                    timeout=900, check=False,
                )  # fmt: skip
            finally:
                worker.terminate()
                worker.wait(120)
    (tmp_path / "caller.log").write_text(called.stdout + called.stderr)

    assert called.stdout.count("refused") == 2 and "archived 1" in called.stdout, called.stdout + called.stderr[-6000:]
    assert sandbox.books().submissions_accepted == 1
    assert list((home / "storage").rglob("parameters/*")), "nothing was stored"
    assert assert_nowhere(tmp_path, sandbox.token, object_store.secret_key, "X-Amz-Signature=") > 10
