"""The blocks on a Prefect server and in use: what is stored, what is shown, and what the engine gets."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prefect import get_client
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr, ValidationError

from blocks import MediaStore, RunComfyCredentials
from deployments.doctor.__main__ import BlockSources
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.content_credentials.certificates import Chain, make_chain

TOKEN = "token-81c2f7d0"
SECRET = "secret-5a90be13"
NOWHERE = "http://127.0.0.1:9"

KEYS: list[AwsCredentials | MinIOCredentials] = [
    AwsCredentials(
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=SecretStr(SECRET),
        region_name="eu-north-1",
        aws_client_parameters=AwsClientParameters(endpoint_url="https://s3.example.com"),
    ),
    MinIOCredentials(
        minio_root_user="AKIDEXAMPLE",
        minio_root_password=SecretStr(SECRET),
        region_name="eu-north-1",
        aws_client_parameters=AwsClientParameters(endpoint_url="https://s3.example.com"),
    ),
]


def aws(object_store: ObjectStore, endpoint_url: str | None = None) -> AwsCredentials:
    return AwsCredentials(
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=SecretStr(object_store.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=endpoint_url or object_store.endpoint_url),
    )


def minio(object_store: ObjectStore) -> MinIOCredentials:
    return MinIOCredentials(
        minio_root_user=object_store.access_key,
        minio_root_password=SecretStr(object_store.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=object_store.endpoint_url),
    )


def put_and_read(store: MediaStore) -> bytes:
    """Write an object with the engine's store, and read it back."""
    engine = store.get_store()
    key = engine.key("written.txt")
    assert engine.put_new(key, b"here", content_type="text/plain")
    return engine.read(key, limit_bytes=100)


async def stored(block: Block, name: str) -> str:
    """Return everything that the API shows of a stored block to somebody who may not see secrets."""
    async with get_client() as client:
        document = await client.read_block_document_by_name(
            name, block_type_slug=block.get_block_type_slug(), include_secrets=False
        )
        everyone = await client.read_block_documents(include_secrets=False)
    return document.model_dump_json() + "".join(other.model_dump_json() for other in everyone)


# On a Prefect server


async def test_the_account_is_stored_and_loaded(prefect_api: str, prefix: str) -> None:
    """Code that loads the block gets the token; nobody who only views the block sees it."""
    await RunComfyCredentials.register_type_and_schema()
    account = RunComfyCredentials(
        api_token=SecretStr(TOKEN), base_url="https://example.com", output_hosts=["*.example.com"]
    )
    await account.save(prefix)

    loaded = await RunComfyCredentials.load(prefix)

    assert loaded.api_token.get_secret_value() == TOKEN
    assert (loaded.base_url, loaded.output_hosts) == ("https://example.com", ["*.example.com"])
    assert loaded.host_policy().allowed == ("*.example.com",)
    assert TOKEN not in await stored(account, prefix)
    assert TOKEN not in repr(loaded) + str(loaded) + loaded.model_dump_json()
    async with loaded.get_client() as client:
        assert client.base_url == "https://example.com"
        assert TOKEN not in repr(client) + repr(vars(client))


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: type(keys).__name__)
@pytest.mark.parametrize("apart", [True, False], ids=["stored-apart", "inside"])
async def test_the_bucket_is_stored_and_loaded(
    prefect_api: str, prefix: str, keys: AwsCredentials | MinIOCredentials, apart: bool
) -> None:
    """With its credentials, of either kind, whether a stored block or created inline."""
    await MediaStore.register_type_and_schema()
    keys = keys.model_copy()
    if apart:
        await keys.save(f"{prefix}-keys")
    store = MediaStore(bucket="videos", prefix="a/b", credentials=keys, archive_key="{request_id}-{index}.{ext}")
    await store.save(prefix)

    loaded = await MediaStore.load(prefix)

    assert type(loaded.credentials) is type(keys)
    assert (loaded.bucket, loaded.prefix, loaded.archive_key) == ("videos", "a/b", "{request_id}-{index}.{ext}")
    engine = loaded.get_store()
    assert (engine.endpoint_url, engine.client.meta.region_name) == ("https://s3.example.com", "eu-north-1")
    assert engine.client._request_signer._credentials.secret_key == SECRET
    assert SECRET not in await stored(store, prefix)
    assert SECRET not in repr(loaded) + str(loaded) + loaded.model_dump_json() + repr(engine)


# In use


@pytest.mark.parametrize("keys", [aws, minio])
def test_either_kind_of_credentials_reaches_the_store(object_store: ObjectStore, prefix: str, keys: Any) -> None:
    """Keys, region and endpoint come from the credentials block."""
    store = MediaStore(bucket="videos", prefix=prefix, credentials=keys(object_store))

    assert put_and_read(store) == b"here"
    assert store.get_store().client.meta.region_name == "us-east-1"
    assert store.get_store() is store.get_store()


def test_its_own_endpoint_and_region_take_precedence(object_store: ObjectStore, prefix: str) -> None:
    """Over those of the credentials block, which other buckets may share."""
    elsewhere = aws(object_store, NOWHERE)
    store = MediaStore(
        bucket="videos",
        prefix=prefix,
        credentials=elsewhere,
        endpoint_url=object_store.endpoint_url,
        region_name="eu-west-3",
    )

    assert put_and_read(store) == b"here"
    assert store.get_store().client.meta.region_name == "eu-west-3"


def test_the_public_endpoint_is_the_one_that_is_signed_for(object_store: ObjectStore, prefix: str) -> None:
    """RunComfy fetches the image from outside."""
    store = MediaStore(
        bucket="videos",
        prefix=prefix,
        credentials=aws(object_store),
        public_endpoint_url="https://pictures.example.com",
    )

    url = store.get_store().sign(store.get_store().key("a.png"), timedelta(hours=1))

    assert urlsplit(url)._replace(query="").geturl() == f"https://pictures.example.com/videos/{prefix}/a.png"
    assert put_and_read(store) == b"here"


def test_without_credentials_boto3_looks_in_its_usual_places(
    object_store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint from the environment is addressed by path, since no host name there is that of a bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = MediaStore(bucket="videos", prefix=prefix)

    assert put_and_read(store) == b"here"
    assert store.get_store().endpoint_url == object_store.endpoint_url


def test_without_any_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """And not that the bucket is missing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = MediaStore(bucket="videos", endpoint_url=NOWHERE)

    with pytest.raises(StorageError, match="credentials"):
        store.get_store().check()


@pytest.mark.parametrize(
    "key",
    [
        "video.mp4", "{request_id}.{ext}", "{nonsense}-{index}.{ext}", "{index}{ext}", "{",
        "journal/{request_id}-{index}.{ext}", "Images/{request_id}-{index}.{ext}",
    ],
)  # fmt: skip
def test_a_wrong_archive_key_is_refused_at_once(key: str) -> None:
    """When the block is created, with a sentence that says what is wrong, and not when a video has been paid for."""
    with pytest.raises(ValidationError) as caught:
        MediaStore(bucket="videos", archive_key=key)

    (problem,) = caught.value.errors()
    assert problem["loc"] == ("archive_key",)
    assert "The key template" in problem["msg"]


@pytest.mark.parametrize("load", [MediaStore.aload, lambda name: Block.aload(f"media-store/{name}")])
async def test_a_block_that_an_older_version_saved_loads_and_says_what_to_do(
    prefect_api: str, object_store: ObjectStore, prefix: str, load: Callable[[str], Awaitable[MediaStore]]
) -> None:
    """With a journal in a folder, and an archive key that is reserved now: nothing can be paid for with it."""
    saved = MediaStore(bucket="videos", credentials=aws(object_store))
    saved.journal, saved.archive_key = "/srv/journal", "images/{request_id}-{index}.{ext}"
    await saved.save(prefix)

    loaded = await load(prefix)

    with pytest.raises(ConfigurationError, match="aws s3 cp /srv/journal s3://"):
        loaded.get_journal()
    with pytest.raises(ConfigurationError, match="aws s3 cp /srv/journal s3://"):
        loaded.check_settings()
    with pytest.raises(ConfigurationError, match="kept for other things"):
        loaded.check_place(prompt="rain")
    key = loaded.key_template().render(model="m", request_id="r", index=0, ext="mp4")
    assert key.startswith("images-") and loaded.key_template().matches(key)
    with pytest.raises(ValidationError, match="cannot be kept in a folder"):
        MediaStore(bucket="videos", journal="/srv/journal")


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"prefix": "team/journal/x", "journal": "s3://videos/team"}, True),
        ({"prefix": "/team/", "journal": "s3://videos/team", "archive_key": "a/{request_id}-{index}.{ext}"}, False),
        ({"prefix": "journal/x", "journal": "s3://videos"}, True),
        ({"prefix": "team/journal/x", "journal": "s3://images/team"}, False),
        ({"prefix": "team/journal/x", "journal": "bucket"}, False),
        ({"prefix": "x", "journal": "s3://videos/x", "archive_key": "{model}/{request_id}-{index}.{ext}"}, False),
    ],
)
def test_an_archive_inside_the_folder_of_the_journal_is_refused(settings: dict[str, str], refused: bool) -> None:
    """That is a bucket's own folder `journal/`, or that of another prefix."""
    store = MediaStore(bucket="videos", **settings)

    if refused:
        with pytest.raises(ConfigurationError, match="folder of the journal"):
            store.check_settings()
    else:
        store.check_settings()


# The signer


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return make_chain(tmp_path)


def in_one_line(path: Path) -> str:
    """Return a PEM file as a form with one line keeps it."""
    return " ".join(path.read_text().split("\n"))


async def test_the_signer_is_stored_and_loaded(prefect_api: str, prefix: str, chain: Chain) -> None:
    """With its key, as a form has it: in one line. Nobody who views the block, or its process, sees the key."""
    await MediaStore.register_type_and_schema()
    key = chain.key.read_text()
    store = MediaStore(
        bucket="videos", sign_certificate=in_one_line(chain.certificate), sign_key=SecretStr(in_one_line(chain.key)),
        sign_required=True,
    )  # fmt: skip
    await store.save(prefix)

    loaded = await MediaStore.load(prefix)
    arrived = await asyncio.to_thread(lambda: pickle.loads(pickle.dumps(loaded)))

    signing = loaded.signing()
    assert signing is not None and signing.required
    signing.check()
    of_block = BlockSources(None, "bucket", None, prefix)
    assert await of_block.signing() is signing
    assert signing.works and await asyncio.to_thread(arrived.signing) is signing
    secret = key.splitlines()[1]
    parts = (loaded, repr(loaded), str(loaded), loaded.model_dump_json(), vars(signing), signing.settings)
    assert secret not in "".join(map(repr, parts)) + await stored(store, prefix)
    assert secret.encode() not in pickle.dumps(loaded)
    assert "sign_key" in loaded.model_dump_json(context={"include_secrets": True})
    assert secret not in loaded.model_dump_json(context={"include_secrets": True})
    with pytest.raises(ConfigurationError, match="name the signer's key in KMS"):
        pickle.dumps(MediaStore(bucket="videos", sign_certificate="c.pem", sign_key=SecretStr(key)))


def test_what_is_wrong_with_the_signer_is_said_without_its_key(chain: Chain, tmp_path: Path) -> None:
    """Before anything is paid for."""
    (tmp_path / "other").mkdir()
    stranger, key = make_chain(tmp_path / "other"), SecretStr(chain.key.read_text())
    half = SecretStr(chain.key.read_text()[:120])
    certificate = str(chain.certificate)
    wrong: dict[str, dict[str, Any]] = {
        "both are given": {"sign_certificate": certificate, "sign_key": key, "sign_kms_key": "alias/x"},
        "neither is given": {"sign_certificate": certificate},
        "no certificate is named": {"sign_key": key},
        "is no private key in PEM form": {"sign_certificate": certificate, "sign_key": SecretStr("SECRET" * 9)},
        "holds no private key": {"sign_certificate": certificate, "sign_key": half},
        "is not that of": {"sign_certificate": str(stranger.certificate), "sign_key": key},
        "time-stamp authority": {"sign_certificate": certificate, "sign_key": key, "sign_tsa_url": "ftp://x"},
        "cannot be read": {"sign_certificate": "/none.pem", "sign_key": key},
    }

    for said, settings in wrong.items():
        with pytest.raises(ConfigurationError, match=said) as raised:
            signing = MediaStore(bucket="videos", **settings).signing()
            assert signing is not None
            signing.check()
        assert not any(line in raised.value.message for line in ("SECRET", *key.get_secret_value().splitlines()[1:3]))
    with pytest.raises(ValidationError, match="what Prefect shows"):
        MediaStore(bucket="videos", sign_key=SecretStr("**********"))
    assert MediaStore(bucket="videos").signing() is None


# In the UI


@pytest.mark.parametrize("kind", [MediaStore, RunComfyCredentials])
def test_the_ui_can_show_it(kind: type[Block]) -> None:
    """A name, a logo, a sentence, a documentation page, and a snippet to copy."""
    block_type = kind._to_block_type()

    assert str(block_type.logo_url).startswith("https://")
    assert str(block_type.documentation_url).startswith("https://")
    assert str(block_type.description).endswith(".")
    assert f"{kind.__name__}.load(" in str(block_type.code_example)
    assert f"from prefect_runcomfy import {kind.__name__}" in str(block_type.code_example)


@pytest.mark.parametrize("kind", [MediaStore, RunComfyCredentials])
def test_each_field_of_the_form_is_explained(kind: type[Block]) -> None:
    """With a title and a description; tokens are password fields."""
    fields = kind.model_json_schema()["properties"]

    assert [name for name, field in fields.items() if not (field.get("title") and field.get("description"))] == []
    secret = {name for name, field in fields.items() if "password" in json.dumps(field)}
    assert secret == ({"api_token"} if kind is RunComfyCredentials else {"sign_key"})


def test_what_a_buckets_rules_want_is_a_setting() -> None:
    """Nothing by default; a wrong value is refused before anything is paid for."""
    plain = MediaStore(bucket="videos", region_name="eu-west-1")
    asked = plain.model_copy(update={"kms_key_id": "alias/videos", "requester_pays": True})
    wrong = plain.model_copy(update={"expected_bucket_owner": "me"})

    assert plain.get_store().settings.words == []
    assert asked.get_store().settings.words == ["--kms-key-id", "alias/videos", "--requester-pays"]
    with pytest.raises(ConfigurationError, match="12 digits"):
        wrong.check_settings()
