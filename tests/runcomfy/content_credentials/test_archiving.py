"""Signed files in the bucket: stored once, recognised after a crash, and checked again."""

from __future__ import annotations

import asyncio
import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import c2pa
import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.api.requests import collect
from runcomfy.archive.archive import archive_output
from runcomfy.cli.__main__ import main
from runcomfy.content_credentials import Signing, SigningSettings, Statement, read_credentials
from runcomfy.download.hosts import HostPolicy
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from runcomfy.values import GenerationFacts
from tests.runcomfy.content_credentials.certificates import SIGNER, Chain, make_chain
from tests.runcomfy.journal.making import accepted_elsewhere

IMAGE = Path(__file__).parents[3] / "deployments" / "demo.jpg"


class Bucket:
    """The command in this process, and the bucket that it fills."""

    def __init__(self, client: Any, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.client, self.prefix, self._capsys = client, prefix, capsys

    def run(self, *words: str, code: int = 0, bucket: bool = True) -> dict[str, Any]:
        self._capsys.readouterr()
        where = ("--bucket", f"s3://videos/{self.prefix}") if bucket else (f"s3://videos/{self.prefix}",)
        try:
            ended = main([*words, *where, "--json"])
        except SystemExit as end:
            ended = int(str(end.code))
        out, err = self._capsys.readouterr()
        assert ended == code, (out, err)
        return dict(json.loads(out))

    def get(self, key: str) -> tuple[bytes, dict[str, str]]:
        answer = self.client.get_object(Bucket="videos", Key=key)
        return answer["Body"].read(), answer["Metadata"]

    def problems(self) -> set[str]:
        found = self.run("verify", bucket=False, code=15)
        return {each["problem"] for each in found["findings"]}


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return make_chain(tmp_path)


@pytest.fixture
def signing(chain: Chain) -> Signing:
    return Signing(SigningSettings(str(chain.certificate), str(chain.key)), ("runcomfy-prefect", "1.0"))


@pytest.fixture
def bucket(
    surrounded: None, object_store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], chain: Chain,
) -> Bucket:  # fmt: skip
    monkeypatch.setenv("RUNCOMFY_SIGN_CERTIFICATE", str(chain.certificate))
    monkeypatch.setenv("RUNCOMFY_SIGN_KEY", str(chain.key))
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    return Bucket(client, prefix, capsys)


def test_a_signed_file_is_recognised_after_a_crash_and_checked_again(bucket: Bucket, sandbox: Sandbox) -> None:
    """By its metadata, and on a store that keeps none by what is signed in it; never made or stored a second time."""
    made = bucket.run("image-to-video", str(IMAGE), "a boat")
    (video,) = made["videos"]
    file, metadata = bucket.get(video["key"])
    provenance = json.loads(bucket.get(video["provenance_key"])[0])

    found = read_credentials(io.BytesIO(file), "video/mp4")
    assert found is not None and found.is_valid and found.signer == SIGNER == provenance["signed_by"]
    assert found.statement is not None and found.ingredients == (provenance["image"]["key"].rpartition("/")[2],)
    assert (found.statement.request_id, found.statement.source_sha256) == (
        made["request_id"],
        provenance["source_sha256"],
    )
    assert provenance["marked"] and metadata["runcomfy-sha256"] == provenance["sha256"] == video["sha256"]
    sound = bucket.run("verify", bucket=False)
    assert (sound["sound"], sound["signatures"], sound["unchecked_signatures"]) == (True, 1, 0)

    for kept in (metadata, {}):  # it was killed after the file, before the provenance
        bucket.client.put_object(Bucket="videos", Key=video["key"], Body=file, Metadata=kept, ContentType="video/mp4")
        for key in (video["provenance_key"], video["poster_key"]):
            bucket.client.delete_object(Bucket="videos", Key=key)
        (again,) = bucket.run("fetch", made["request_id"])["videos"]
        assert (again["sha256"], bucket.get(video["key"])[0]) == (video["sha256"], file)
        written = json.loads(bucket.get(video["provenance_key"])[0])
        assert (written["signed_by"], written["marked"]) == (SIGNER, True)
        assert bucket.run("verify", bucket=False)["sound"]
    assert sandbox.books().submissions_accepted == 1


def test_what_was_signed_is_held_against_the_provenance(bucket: Bucket) -> None:
    """Whoever changes the prompt, or the file with all that names its digest, is found."""
    (video,) = bucket.run("text-to-video", "rain")["videos"]
    provenance, file = json.loads(bucket.get(video["provenance_key"])[0]), bucket.get(video["key"])[0]

    def put(changed: bytes, **changes: Any) -> None:
        bucket.client.put_object(Bucket="videos", Key=video["key"], Body=changed)
        document = json.dumps(provenance | changes).encode()
        bucket.client.put_object(Bucket="videos", Key=video["provenance_key"], Body=document)

    put(file, inputs=provenance["inputs"] | {"prompt": "snow"})
    assert bucket.problems() == {"signature_differs"}
    at = file.rindex(b"mdat") + 200
    changed = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
    put(changed, sha256=sha256(changed).hexdigest())
    assert "signature_invalid" in bucket.problems()
    put(file)
    assert bucket.run("verify", bucket=False)["sound"]


def test_an_image_that_a_camera_signed_is_an_ingredient_with_its_own_manifest(
    bucket: Bucket, tmp_path: Path, signing: Signing
) -> None:
    """It is staged as it is; and a change that no signature covers, of the file type box, is found by the digest."""
    photo = tmp_path / "photo.jpg"
    with IMAGE.open("rb") as source, photo.open("w+b") as into:
        camera = Signing(signing.settings, ("a-camera", "2.0"))
        statement = Statement(model_id="-", request_id="-", output_index=0, source_sha256="", generation_sha256="")
        camera.sign(source, into, "image/jpeg", statement)

    (video,) = bucket.run("image-to-video", str(photo), "a boat")["videos"]
    file, metadata = bucket.get(video["key"])

    with c2pa.Reader("video/mp4", io.BytesIO(file)) as reader:
        found = json.loads(reader.json())
    (ingredient,) = found["manifests"][found["active_manifest"]]["ingredients"]
    assert "a-camera" in json.dumps(found["manifests"][ingredient["active_manifest"]]["claim_generator_info"])
    assert bucket.run("verify", bucket=False)["sound"]
    changed = file[:20] + bytes([file[20] ^ 1]) + file[21:]
    bucket.client.put_object(Bucket="videos", Key=video["key"], Body=changed, Metadata=metadata)
    assert bucket.problems() == {"bytes_differ"}


def test_a_signer_that_fails_decides_by_what_is_required(
    bucket: Bucket, sandbox: Sandbox, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot work is said before anything is paid for; a time-stamp authority that is away costs no file."""
    monkeypatch.setenv("RUNCOMFY_SIGN_TSA_URL", "http://127.0.0.1:9/")
    (video,) = bucket.run("text-to-video", "rain")["videos"]
    assert any(each.startswith("It is not signed") for each in video["warnings"])
    assert "signed_by" not in json.loads(bucket.get(video["provenance_key"])[0])

    paid = sandbox.books().submissions_accepted
    monkeypatch.setenv("RUNCOMFY_SIGN_REQUIRED", "yes")
    assert "Nothing was paid for" in bucket.run("text-to-video", "snow", code=3)["message"]
    monkeypatch.delenv("RUNCOMFY_SIGN_TSA_URL")
    monkeypatch.setenv("RUNCOMFY_SIGN_KEY", str(chain.certificate))
    assert "private key" in bucket.run("text-to-video", "snow", code=3)["message"]
    assert sandbox.books().submissions_accepted == paid


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [True, False], ids=["conditional", "unconditional"])
@pytest.mark.parametrize("metadata", [True, False], ids=["metadata", "no metadata"])
async def test_many_that_sign_the_same_file_agree(
    sandbox: Sandbox, object_store: ObjectStore, prefix: str, signing: Signing, metadata: bool, conditional: bool
) -> None:
    """Their signatures differ, and one of them is in the bucket, with the provenance that describes it."""
    request_id = await asyncio.to_thread(accepted_elsewhere, sandbox)
    await asyncio.to_thread(sandbox.wait_for_end, request_id)
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        (url, *_) = (await collect(client, request_id)).outputs
    facts = GenerationFacts(model_id="a/b", request_id=request_id, generation_key="0" * 64, inputs={"prompt": "rain"})

    def without_metadata(params: dict[str, Any], **_: Any) -> None:
        params.pop("Metadata", None)

    def store() -> Store:
        made = Store(
            "videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url,
            conditional_writes=conditional,
        )  # fmt: skip
        if not metadata:
            made.client.meta.events.register("provide-client-params.s3.PutObject", without_metadata)
        return made

    hosts = HostPolicy(allowed=(sandbox.host,))
    made = await asyncio.gather(
        *(archive_output(url, 0, facts, store(), hosts=hosts, signing=signing) for _ in range(6))
    )

    file = store().read(made[0].key, limit_bytes=10**7)
    provenance = json.loads(store().read(made[0].provenance_key, limit_bytes=10**6))
    assert len({video.key for video in made}) == 1
    assert (provenance["sha256"], provenance["signed_by"]) == (sha256(file).hexdigest(), SIGNER)
    found = read_credentials(io.BytesIO(file), "video/mp4")
    assert found is not None and (found.is_valid, found.problems) == (True, ())
    assert found.statement is not None and found.statement.source_sha256 == provenance["source_sha256"]
    if conditional:  # without, the last one to write decides, after others have returned
        assert {video.sha256 for video in made} == {provenance["sha256"]}


@pytest.mark.slow
def test_a_key_that_is_gone_keeps_no_file_from_being_collected(
    bucket: Bucket, sandbox: Sandbox, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for: it is archived unsigned, unless it has to be signed; a new generation is refused."""
    late = bucket.run("text-to-video", "late", "--run-timeout-seconds", "0.01", code=6)
    monkeypatch.setenv("RUNCOMFY_SIGN_KEY", str(chain.key.with_name("gone.pem")))
    sandbox.wait_for_end(late["request_id"])

    assert "cannot be read" in bucket.run("text-to-video", "rain", code=3)["message"]
    monkeypatch.setenv("RUNCOMFY_SIGN_REQUIRED", "yes")
    assert bucket.run("fetch", late["request_id"], code=13)["error"] == "SigningFailed"
    monkeypatch.delenv("RUNCOMFY_SIGN_REQUIRED")
    (video,) = bucket.run("fetch", late["request_id"])["videos"]
    assert any(each.startswith("It is not signed: The key gone.pem cannot be read") for each in video["warnings"])
