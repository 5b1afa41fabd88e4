"""Flows on Prefect's own test server, against the sandbox and a real S3 server."""

from __future__ import annotations

import pytest
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.cli.command_line import CommandLine, surroundings

__all__ = ["surroundings"]


@pytest.fixture(scope="session", autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


@pytest.fixture
def account(sandbox: Sandbox) -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host])


@pytest.fixture
def media_store(object_store: ObjectStore, prefix: str) -> MediaStore:
    keys = AwsCredentials(
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=SecretStr(object_store.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=object_store.endpoint_url),
    )
    return MediaStore(bucket="videos", prefix=prefix, credentials=keys)


@pytest.fixture
def command_line(surroundings: dict[str, str], prefect_api: str, prefix: str) -> CommandLine:
    """`prefect-runcomfy`, in an environment that a flow could run in."""
    return CommandLine(surroundings | {"PREFECT_API_URL": prefect_api}, f"s3://videos/{prefix}")
