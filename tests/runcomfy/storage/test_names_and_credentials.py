"""What people write into a setting, and what AWS's files say: taken, or refused in words."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import boto3
import pytest

from runcomfy.cli.output import exit_code
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.journal import check_choice
from runcomfy.storage.address import bucket_and_prefix, check_endpoint
from runcomfy.storage.bucket_settings import BucketSettings
from runcomfy.storage.store import Store

NAMES = {
    "my videos": "a blank, a line break",
    "videos\n": "a blank, a line break",
    "vid\u200beos": "cannot be seen",
    "arn:aws:s3:::videos": "is an ARN. Give the name of the bucket alone: videos",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine": "of an access point, its alias",
    "Videos": "in lower case: videos",
    "ab": "3 to 63",
    "videos?x=1": "cannot be the name",
    "me@videos": "cannot be the name",
    "-videos": "begins and ends",
    "": "not the name of a bucket",
    "videos/x": "without slashes",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_bucket_can_have_is_refused(name: str) -> None:
    """In words that say what is wrong with it."""
    with pytest.raises(ConfigurationError, match=NAMES[name]):
        Store(name, session=boto3.Session("k", "s", region_name="eu-west-1"))


@pytest.mark.parametrize("name", ["Videos", "my_Videos_", "tenant:videos", "ab"])
def test_another_server_may_have_buckets_of_other_names(name: str) -> None:
    """Those of Ceph and of old servers; AWS has none of these."""
    bucket, prefix = bucket_and_prefix(f"s3://{name}/x", "--bucket")
    store = Store(bucket, prefix, session=boto3.Session("k", "s"), endpoint_url="http://127.0.0.1:9000")

    url = store.sign(store.key("a"), timedelta(minutes=5))

    assert unquote(url).startswith(f"http://127.0.0.1:9000/{name}/x/a?")
    for endpoint in (None, "https://s3.eu-west-1.amazonaws.com"):
        with pytest.raises(ConfigurationError, match=name):
            Store(bucket, session=boto3.Session("k", "s", region_name="eu-west-1"), endpoint_url=endpoint)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("Videos", "ab", "-videos")])
def test_what_names_no_bucket_is_refused_everywhere(name: str) -> None:
    """Blanks, line breaks, slashes and ARNs are accidents at each server."""
    with pytest.raises(ConfigurationError, match=NAMES[name]):
        Store(name, session=boto3.Session("k", "s"), endpoint_url="http://127.0.0.1:9000")


@pytest.mark.parametrize("prefix", ["a/../b", "..", "./a", "a\nb", "a\x00"])
def test_a_prefix_that_others_read_otherwise_is_refused(prefix: str) -> None:
    """Keys with `..` are shortened on their way, and line breaks are an accident."""
    with pytest.raises(ConfigurationError, match="prefix"):
        Store("videos", prefix, session=boto3.Session("k", "s", region_name="eu-west-1"))


@pytest.mark.parametrize("named", ["s3://videos/a/b", "S3://videos/a/b", " s3://videos/a/b\n", "videos/a/b"])
def test_a_place_is_named_in_several_ways(named: str) -> None:
    """All are the same."""
    assert bucket_and_prefix(named, "--bucket") == ("videos", "a/b")


def test_a_journal_may_be_named_in_capitals() -> None:
    """`S3://` is `s3://`, and is recorded as that; a bucket that cannot be at its server is refused."""
    assert check_choice(" S3://other/x ") == "s3://other/x"
    with pytest.raises(ConfigurationError, match="lower case"):
        Store(*bucket_and_prefix(check_choice("s3://Other/x"), "The journal"), session=boto3.Session("k", "s"))


@pytest.mark.parametrize(
    ("endpoint", "right"),
    [
        ("https://videos.s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("https://videos.fra1.digitaloceanspaces.com", "https://fra1.digitaloceanspaces.com"),
        ("https://videos.0123.r2.cloudflarestorage.com", "https://0123.r2.cloudflarestorage.com"),
        ("https://0123.r2.cloudflarestorage.com/videos", "https://0123.r2.cloudflarestorage.com"),
        ("http://127.0.0.1:9000/videos/", "http://127.0.0.1:9000"),
        ("http://gateway:9000/s3/videos", "http://gateway:9000/s3"),
    ],
)
def test_an_endpoint_with_the_bucket_is_refused(endpoint: str, right: str) -> None:
    """Everything would be written below the bucket's name again; the message names the endpoint to give."""
    with pytest.raises(ConfigurationError) as refused:
        Store("videos", session=boto3.Session("k", "s"), endpoint_url=endpoint)
    assert refused.value.message.endswith(f"Give the endpoint as {right}.")


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9000", "https://videos.example.com", "https://h/storage/v1/s3", None, "http://[", ""]
)
def test_other_endpoints_are_not_suspected(endpoint: str | None) -> None:
    """A server may have the name of its bucket."""
    check_endpoint(endpoint, "videos")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"acl": "public-read"}, "journal"),
        ({"encryption": "aes"}, "AES256"),
        ({"encryption": "AES256", "kms_key_id": "k"}, "uses none"),
        ({"kms_key_id": "k\n"}, "line break"),
        ({"expected_bucket_owner": "me"}, "12 digits"),
    ],
)
def test_settings_that_s3_does_not_know_are_refused(settings: dict[str, str], words: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=words):
        BucketSettings(**settings)  # type: ignore[arg-type]


CONFIG = f"""
[profile sso]
sso_session = s
sso_account_id = 123456789012
sso_role_name = r
[sso-session s]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
[profile failing]
credential_process = {sys.executable} -c "import sys; sys.exit('the secret is 12345')"
[profile missing]
credential_process = /nonexistent/program
[profile talking]
credential_process = echo hello
[profile loop]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = loop2
[profile loop2]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = loop
[profile token]
role_arn = arn:aws:iam::123456789012:role/x
web_identity_token_file = /nonexistent/token
[profile half]
aws_access_key_id = AKIA
"""
PROFILES = {
    "nobody": "there is no AWS profile “nobody”", "sso": "aws sso login", "failing": "Run it by hand",
    "missing": "Run it by hand", "talking": "Run it by hand", "loop": "without end",
    "token": "there is no file /nonexistent/token", "half": "Give the store keys",
}  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_credentials_that_cannot_be_had_are_an_error_of_the_store(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 12 and what to do; nothing that a program printed is in it."""
    (tmp_path / "config").write_text(CONFIG)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", profile)

    with pytest.raises(StorageError, match=PROFILES[profile]) as refused:
        Store("videos", endpoint_url="http://127.0.0.1:9").head("a")

    assert exit_code(refused.value) == 12
    assert "there are no usable credentials" in refused.value.message
    assert "12345" not in str(refused.value)
