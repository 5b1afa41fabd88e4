"""Where images are staged and videos are archived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Self

import boto3
from prefect.blocks.core import Block
from prefect_aws.credentials import AwsCredentials, MinIOCredentials
from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
)

from blocks.prefect_api import LoadedInWords
from blocks.travelling import MASK, SecretOrigin, find_block, origin_of, refusal
from runcomfy.archive.signing import environment_signing, signing_by
from runcomfy.content_credentials import Signing, SigningSettings, is_pem
from runcomfy.errors import ConfigurationError
from runcomfy.generation.destination import Destination, OnDefect, check_place
from runcomfy.journal import Journal, JournalStore, check_choice, names_folder, open_journal_store
from runcomfy.storage.bucket_settings import Acl, BucketSettings, Encryption
from runcomfy.storage.keys import DEFAULT_TEMPLATE, KeyTemplate
from runcomfy.storage.s3 import open_session
from runcomfy.storage.store import Store

__all__ = ["MediaStore"]

_NOT_SENT: dict[str, Any] = {"_store": None, "_journal": None, "_made_for": (), "_first_secrets": ()}


_loading: ContextVar[bool] = ContextVar("loading", default=False)


class MediaStore(LoadedInWords, Block):
    """A bucket on AWS S3 or on any server that speaks S3: MinIO, Cloudflare R2, Ceph, SeaweedFS.

    Args:
        bucket: The bucket; it must exist.
        prefix: Everything is kept below this prefix, such as `marketing/videos`.
        credentials: A credentials block of prefect-aws. Without one, boto3 looks in its usual places: environment,
            profile, instance role.
        endpoint_url: The S3 endpoint, for other servers than AWS, such as `https://minio.example.com`.
        public_endpoint_url: The same server as the internet sees it, where that is another address: URLs of images are
            signed for it, because RunComfy fetches them from outside.
        region_name: The bucket's region, such as `eu-central-1`.
        addressing_style: Whether the bucket is in the host name or in the path. `auto` is right for AWS (virtual) and
            for most other servers (path).
        archive_key: How archived files are named below the prefix. Fields: `{model}`, `{request_id}`, `{index}`,
            `{ext}`, `{generation}`, `{prompt}`, `{seed}`.
        mark_ai_generated: Add about 600 bytes to each archived file whose format has a place for them (MP4, PNG, JPEG,
            WebP, WAV, MP3, FLAC), which say that a trained model made it (IPTC's digital source type). Without it,
            files are stored as they came; their provenance says so in any case. A file that is signed (C2PA) is never
            changed.
        on_defect: What to do about a file that is judged suspect or damaged (docs/archive.md). Either way it is
            archived: `keep` leaves it at that; `set_aside` archives it below `quarantine/`, where a person decides
            (`prefect-runcomfy review`, or the deployment `review`); `fail` lets the run fail then (`DefectiveOutput`).
        sign_certificate: Sign archived files (docs/content-credentials.md): the signer's certificate first, then those
            up to the root, in PEM form; or the path of such a file where the worker runs. If nothing is said about a
            signer here, the worker's environment does (`RUNCOMFY_SIGN_...`).
        sign_key: Its private key in PEM form, without a password. Either this or `sign_kms_key`.
        sign_kms_key: An asymmetric key in AWS KMS that never leaves it: its id, ARN or alias. The worker's own AWS
            credentials are used, not those of this block.
        sign_tsa_url: A time-stamp authority (RFC 3161), so that a signature outlives its certificate.
        sign_required: Whether a file that cannot be signed is not archived (`SigningFailed`), rather than archived with
            a warning.
        contact_sheets: Put a contact sheet beside each video, `<key>.sheet.jpg`: nine frames with their times, some ten
            thousand bytes. The run's page shows it in place of the poster.
        conditional_writes: Turn off for servers that refuse `If-None-Match` on writes. Such a server cannot hold the
            journal.
        encryption: How the server encrypts what is written, if not as the bucket says: `AES256`, `aws:kms` or
            `aws:kms:dsse`.
        kms_key_id: The key for SSE-KMS: its id, ARN or alias.
        acl: The ACL of what is written, in a bucket of another account: `private`, `bucket-owner-read` or
            `bucket-owner-full-control`. None that makes objects public: the journal is in the bucket.
        requester_pays: Agree to pay for the requests, as such a bucket wants.
        expected_bucket_owner: The AWS account that the bucket has to belong to: 12 digits. If it belongs to another,
            S3 refuses every call.
        journal: Where it is recorded what was paid for, so that nothing is paid for twice. `bucket` is the folder
            `journal/` below the prefix; `s3://bucket/prefix` is another bucket of the same server; `none` keeps it in
            the memory of each process: then another process pays again, and so does a run after a crash.
        journal_patience_seconds: The lease of a submission: one that no worker has finished for this long is presumed
            lost. Make it longer than a submission may take on a slow network.

    Example:
        Load a stored bucket and use it in a flow:
        ```python
        from prefect_runcomfy import MediaStore

        store = MediaStore.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Media Store"
    _block_type_slug = "media-store"
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/d74b16fe84ce626345adf235a47008fea2869a60-225x225.png"  # type: ignore[assignment]
    _documentation_url = "https://www.runcomfy.com/"  # type: ignore[assignment]
    _description = "The S3 bucket where input images are staged and generated videos are archived."

    bucket: str = Field(title="Bucket", min_length=3, description="Its name, without s3://; it must exist.")
    prefix: str = Field(default="", title="Prefix", description="Everything is kept below it.")
    credentials: AwsCredentials | MinIOCredentials | None = Field(
        default=None,
        repr=False,
        title="Credentials",
        description="Leave it empty to use boto3's own environment, profile or role.",
    )
    endpoint_url: str = Field(
        default="", title="Endpoint URL", description="For other servers than AWS: MinIO, R2, Ceph and so on."
    )
    public_endpoint_url: str = Field(
        default="", title="Public endpoint URL", description="The endpoint as RunComfy reaches it, if another."
    )
    region_name: str = Field(default="", title="Region", description="Such as eu-central-1.")
    addressing_style: Literal["auto", "virtual", "path"] = Field(
        default="auto", title="Addressing style", description="The bucket in the host name (virtual) or in the path."
    )
    archive_key: str = Field(default=DEFAULT_TEMPLATE, title="Archive key", description="How archived files are named.")
    mark_ai_generated: bool = Field(
        default=True,
        title="Mark as AI-generated",
        description="Say so in each file that can (IPTC digital source type). The provenance says it in any case.",
    )
    on_defect: OnDefect = Field(
        default="keep",
        title="On a defect",
        description="Of a file that is judged suspect or damaged: keep it, set it aside for a person to decide about, "
        "or archive it and fail the run.",
    )
    contact_sheets: bool = Field(
        default=False,
        title="Contact sheets",
        description="Put nine frames with their times, as one JPEG, beside each video.",
    )
    sign_certificate: str = Field(
        default="",
        title="Signer's certificate",
        description="PEM, up to the root, or a file of the worker. If empty, the worker's environment decides.",
    )
    sign_key: SecretStr = Field(
        default=SecretStr(""), title="Signer's key", description="The private key in PEM form, without a password."
    )
    sign_kms_key: str = Field(
        default="", title="Signer's key in KMS", description="Instead of that, a key in AWS KMS: its id, ARN or alias."
    )
    sign_tsa_url: str = Field(
        default="", title="Time-stamp authority", description="By RFC 3161, so that signatures outlive the certificate."
    )
    sign_required: bool = Field(
        default=False, title="Signature required", description="Whether what cannot be signed is not archived."
    )

    conditional_writes: bool = Field(
        default=True, title="Conditional writes", description="Turn off for servers that refuse If-None-Match."
    )

    encryption: Encryption = Field(
        default="", title="Encryption", description="If not as the bucket says: AES256, aws:kms, aws:kms:dsse."
    )
    kms_key_id: str = Field(default="", title="KMS key", description="For SSE-KMS: its id, ARN or alias.")
    acl: Acl = Field(default="", title="ACL", description="Of what is written, in a bucket of another account.")
    requester_pays: bool = Field(
        default=False, title="Requester pays", description="Agree to pay for the requests, as such a bucket wants."
    )
    expected_bucket_owner: str = Field(
        default="", title="Expected owner", description="The AWS account that the bucket has to belong to."
    )

    journal: str = Field(
        default="bucket",
        title="Journal",
        description="Where it is recorded what was paid for: 'bucket' (below the prefix), s3://bucket/prefix, 'none'.",
    )
    journal_patience_seconds: float = Field(
        default=180,
        gt=0,
        title="Patience (s)",
        description="A submission that no worker has finished for this long is presumed lost, and a person is asked.",
    )

    _store: Store | None = PrivateAttr(default=None)
    _journal: Journal | None = PrivateAttr(default=None)
    _made_for: tuple[Any, ...] = PrivateAttr(default=())
    _first_secrets: tuple[Any, ...] = PrivateAttr(default=())
    _origin: SecretOrigin | None = PrivateAttr(default=None)

    @field_serializer("credentials", mode="wrap")
    def _serialize_credentials(
        self, value: Any, serialize: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> Any:
        # prefect-aws keeps the session token as plain text, and Prefect stores the parameters of a flow run
        data = serialize(value)
        if not (info.context or {}).get("include_secrets"):
            _mask_session_token(data)
        return data

    @model_serializer(mode="wrap")
    def ser_model(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Return the block as Prefect serialises it; see `RunComfyCredentials.ser_model`."""
        data = Block.ser_model(self, handler, info)
        if (info.context or {}).get("include_secrets") and not info.by_alias and self.credentials is not None:
            data["credentials"] = self.credentials.model_dump(mode="json")
            _mask_session_token(data["credentials"])
        if (info.context or {}).get("include_secrets") and not info.by_alias and data.get("sign_key"):
            data["sign_key"] = MASK
        return data

    def block_initialization(self) -> None:
        """Remember the secrets that this block was made with: if it is saved, its document holds those."""
        self._first_secrets = (self.credentials, self.sign_key)

    def __getattribute__(self, name: str) -> Any:
        if name in ("credentials", "sign_key"):
            self._load_secrets()
        return super().__getattribute__(name)

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., MediaStore], tuple[Any, ...]]:
        # neither secrets nor a client may be pickled; both are loaded or made again in the other process
        state, origin = self.__getstate__(), self._origin or self._origin_of_secrets()
        if origin is not None:
            state["__dict__"] = state["__dict__"] | {"credentials": None, "sign_key": SecretStr("")}
        state["__pydantic_private__"] = state["__pydantic_private__"] | _NOT_SENT | {"_origin": origin}
        return _restored, (type(self), state)

    def _origin_of_secrets(self) -> SecretOrigin | None:
        """Return where credentials and signer's key can be loaded from, `None` if there are no secrets in them."""
        signs = bool(self.sign_key.get_secret_value())
        if not signs and (self.credentials is None or not _holds_secrets(self.credentials)):
            return None
        if not signs and self.credentials is not None and (saved := origin_of(self.credentials)):
            return saved
        is_unchanged = len(self._first_secrets) == 2 and (
            self.credentials is self._first_secrets[0] and self.sign_key == self._first_secrets[1]
        )
        if is_unchanged and (saved := origin_of(self)):
            return saved
        raise refusal(
            self,
            "name the signer's key in KMS, or in the worker's environment (RUNCOMFY_SIGN_KEY)"
            if signs
            else "save its credentials block alone, or leave `credentials` empty and use boto3's own places",
        )

    def _load_secrets(self) -> None:
        """Load the credentials of a block that was sent to this process; `ConfigurationError` if there are none."""
        if self._origin is not None:
            found = find_block(self._origin)
            self._origin = None
            if isinstance(found, MediaStore):
                self.__dict__ |= {"credentials": found.credentials, "sign_key": found.sign_key}
            else:
                self.__dict__["credentials"] = found
            self._first_secrets = (self.__dict__["credentials"], self.__dict__["sign_key"])

    @field_validator("credentials", mode="before")
    @classmethod
    def _choose_kind(cls, value: Any) -> Any:
        # a stored MinIO block would validate as an AWS block without keys: all fields of that are optional
        if isinstance(value, dict) and "minio_root_user" in value:
            return MinIOCredentials.model_validate(value)
        return value

    @field_validator("sign_key")
    @classmethod
    def _check_sign_key(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value().strip()
        if key and not key.strip("*"):
            raise ValueError(
                "this is no key, but what Prefect shows of one: parameters carry no secrets. Save the block, and "
                "pass the saved one"
            )
        return SecretStr(key)

    @field_validator("journal")
    @classmethod
    def _check_journal(cls, value: str) -> str:
        if _loading.get() and names_folder(value):
            return value  # opening the journal raises, and says what to do
        try:
            return check_choice(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    @field_validator("archive_key")
    @classmethod
    def _check_archive_key(cls, value: str) -> str:
        try:
            KeyTemplate(value, allow_reserved=_loading.get())
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Load a block, even one that an older version saved with values refused now; `check_settings` refuses those.

        Prefect loads blocks with this; if it raises, people see that validation failed, but not why.
        """
        before = _loading.set(True)
        try:
            return super().model_validate(obj, **options)
        finally:
            _loading.reset(before)

    def get_store(self) -> Store:
        """Return the store; its client is made once and is thread-safe.

        Raises:
            StorageError: there are no usable credentials.
        """
        self._forget_if_changed()
        if self._store is None:
            self._store = self._store_at(self.bucket, self.prefix)
        return self._store

    def get_journal(self) -> Journal:
        """Return the journal of the generations that are archived here.

        Raises:
            ConfigurationError: it cannot be kept where `journal` says.
        """
        self._forget_if_changed()
        if self._journal is None:
            self._journal = Journal(self._journal_store(), lease_seconds=self.journal_patience_seconds)
        return self._journal

    def destination(self) -> Destination:
        """Return the bucket, its journal, and how files in it are made.

        Raises:
            ConfigurationError: the journal cannot be kept where `journal` says.
            StorageError: there are no usable credentials.
        """
        return Destination(
            self.get_store(),
            self.get_journal(),
            self.journal,
            self.key_template(),
            self.mark_ai_generated,
            self.on_defect,
            self.contact_sheets,
            self._store_at,
            self.signing(),
        )

    def with_choices(self, *, on_defect: OnDefect | None = None, contact_sheets: bool | None = None) -> Self:
        """Return this store with what one run says of its files; what it leaves out is as here.

        Args:
            on_defect: What to do about a file that is judged suspect or damaged.
            contact_sheets: Whether to put a contact sheet beside each video.
        """
        chosen = {"on_defect": on_defect, "contact_sheets": contact_sheets}
        said = {name: choice for name, choice in chosen.items() if choice is not None}
        return self.model_copy(update=said) if said else self

    def check_settings(self) -> None:
        """Refuse settings that older versions accepted, or that contradict each other, before anything is paid for.

        Raises:
            ConfigurationError: the journal is in a folder, archived files would be in a folder of another purpose, or a
            setting of the bucket is none of S3's, or those of the signer contradict each other.
        """
        check_choice(self.journal)
        self._bucket_settings()
        self.signing()
        self.check_place()

    def check_place(self, **facts: Any) -> None:
        """Make sure that a generation's files do not land in a folder of another purpose.

        Args:
            **facts: What is known of the generation: `model`, `generation`, `prompt`, `seed`.

        Raises:
            ConfigurationError: the archive key, the prefix or the journal points there for every generation.
            InvalidInput: this generation would land there.
        """
        check_place(self.key_template(), self.bucket, self.prefix, self.journal, **facts)

    def key_template(self) -> KeyTemplate:
        """Return how archived files are named."""
        return KeyTemplate(self.archive_key, allow_reserved=True)

    def _forget_if_changed(self) -> None:
        """Drop the store and the journal if a field has changed, as in a copy that was given other values."""
        self._load_secrets()
        values = tuple(
            id(value) if name == "credentials" else value for name, value in self if name in type(self).model_fields
        )
        if values != self._made_for:
            self._made_for, self._store, self._journal = values, None, None

    def _store_at(self, bucket: str, prefix: str) -> Store:
        return Store(
            bucket,
            prefix,
            session=self._session(),
            region_name=self.region_name or None,
            public_endpoint_url=self.public_endpoint_url or None,
            addressing_style=self.addressing_style,
            conditional_writes=self.conditional_writes,
            settings=self._bucket_settings(),
            **self._connection(),
        )

    def _journal_store(self) -> JournalStore:
        return open_journal_store(
            self.journal, self.get_store, self._store_at, conditional_writes=self.conditional_writes
        )

    def _bucket_settings(self) -> BucketSettings:
        return BucketSettings(
            encryption=self.encryption,
            kms_key_id=self.kms_key_id,
            acl=self.acl,
            requester_pays=self.requester_pays,
            expected_bucket_owner=self.expected_bucket_owner,
        )

    def signing(self) -> Signing | None:
        """Return what signs files: what this block says, or else the environment; `None` if nothing does.

        Raises:
            ConfigurationError: the settings contradict each other, or the key is none.
        """
        key = self.sign_key.get_secret_value()
        if not (self.sign_certificate or key or self.sign_kms_key or self.sign_tsa_url or self.sign_required):
            return environment_signing()
        if key and not is_pem(key):  # said here, and not while the block is made: pydantic quotes what it refuses
            raise ConfigurationError(
                "sign_key of the block MediaStore is no private key in PEM form (BEGIN PRIVATE KEY)."
            )
        return signing_by(
            SigningSettings(
                self.sign_certificate.strip(),
                key,
                self.sign_kms_key.strip(),
                self.sign_tsa_url.strip(),
                self.sign_required,
            )
        )

    def _session(self) -> boto3.Session:
        return open_session(self.credentials.get_boto3_session) if self.credentials else open_session()

    def _connection(self) -> dict[str, Any]:
        """Return the connection settings of the credentials block; this block's own endpoint takes precedence."""
        params = self.credentials.aws_client_parameters.get_params_override() if self.credentials else {}
        verify = params.get("verify")
        return {
            "endpoint_url": self.endpoint_url or params.get("endpoint_url"),
            "verify": True if verify is None else verify,
        }


def _holds_secrets(credentials: AwsCredentials | MinIOCredentials) -> bool:
    return bool(getattr(credentials, "aws_session_token", None)) or any(
        isinstance(value, SecretStr) and value.get_secret_value() for _, value in credentials
    )


def _mask_session_token(data: Any) -> None:
    if isinstance(data, dict) and data.get("aws_session_token"):
        data["aws_session_token"] = MASK


def _restored(kind: type[MediaStore], state: Mapping[str, Any]) -> MediaStore:
    store = kind.__new__(kind)
    store.__setstate__(dict(state))
    return store


_arrived = _restored  # its name in what earlier versions have sent
