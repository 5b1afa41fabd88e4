"""Files are signed as the standard wants it: by a key in a file or in KMS, each kind, and any change is found."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import boto3
import c2pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_der_public_key
from moto.server import ThreadedMotoServer
from PIL import Image

from runcomfy.content_credentials import (
    Signing,
    SigningSettings,
    Statement,
    Unsigned,
    read_credentials,
    settings_from_environment,
)
from runcomfy.content_credentials.signing import Ingredient
from runcomfy.errors import ConfigurationError
from runcomfy.media.marking import ai_box
from tests.runcomfy.content_credentials.certificates import SIGNER, Chain, make_chain
from tests.runcomfy.content_credentials.kms_server import KEYS, running_kms
from tests.runcomfy.content_credentials.time_stamps import running_authority

STATEMENT = Statement(
    model_id="a/b", request_id="request-1", output_index=0, generation_key="0" * 64, source_sha256="1" * 64,
    generation_sha256="2" * 64,
)  # fmt: skip
PROGRAM = ("runcomfy-prefect", "1.0")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def signing(chain: Chain) -> Signing:
    return Signing(SigningSettings(str(chain.certificate), str(chain.key)), PROGRAM)


def image(kind: str) -> bytes:
    made = io.BytesIO()
    Image.effect_noise((40, 30), 90).convert("RGB").save(made, kind)
    return made.getvalue()


def sound(kind: str) -> bytes:
    made = io.BytesIO()
    with av.open(made, "w", format=kind) as container:
        stream = container.add_stream("libmp3lame" if kind == "mp3" else "pcm_s16le", rate=44100)
        frame = av.AudioFrame(format="s16p" if kind == "mp3" else "s16", layout="stereo", samples=4410)
        frame.rate = 44100
        for plane in frame.planes:
            plane.update(bytes(at * at % 251 for at in range(plane.buffer_size)))
        for each in (frame, None):
            container.mux(stream.encode(each))  # type: ignore[attr-defined]
    return made.getvalue()


def video(*, marked: bool = True) -> bytes:
    made = io.BytesIO()
    with av.open(made, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    return made.getvalue() + (ai_box("a/b") if marked else b"")


FILES = {
    "video/mp4": video, "image/jpeg": lambda: image("JPEG"), "image/png": lambda: image("PNG"),
    "image/webp": lambda: image("WEBP"), "audio/mpeg": lambda: sound("mp3"), "audio/wav": lambda: sound("wav"),
}  # fmt: skip


def sign(signing: Signing, content_type: str, file: bytes, **more: Any) -> bytes:
    into = io.BytesIO()
    signing.sign(io.BytesIO(file), into, content_type, STATEMENT, **more)
    return into.getvalue()


@pytest.mark.parametrize("content_type", FILES)
def test_each_kind_is_signed_and_a_change_is_found(signing: Signing, content_type: str) -> None:
    """With what we say of it and its input; no signature is like another one."""
    file = FILES[content_type]()
    ingredient = Ingredient("input.jpg", "image/jpeg", lambda: image("JPEG"))
    gone = Ingredient("gone.jpg", "image/jpeg", lambda: (_ for _ in ()).throw(OSError("it is gone")))

    signed = sign(signing, content_type, file, ingredients=(ingredient, gone))
    found = read_credentials(io.BytesIO(signed), content_type)

    assert found is not None and (found.is_valid, found.problems, found.signer) == (True, (), SIGNER)
    assert found.statement == STATEMENT and found.ingredients == ("input.jpg",)
    assert b"trainedAlgorithmicMedia" in signed and read_credentials(io.BytesIO(file), content_type) is None
    assert sign(signing, content_type, file) != sign(signing, content_type, file)
    at = signed.rindex(file[-24:])  # of the file's own bytes
    changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    tampered = read_credentials(io.BytesIO(changed), content_type)
    assert tampered is None or not tampered.is_valid
    if content_type == "video/mp4":
        assert signed.endswith(ai_box("a/b"))


def test_what_the_service_signed_is_kept_as_the_parent(signing: Signing) -> None:
    """Nothing that was signed before is lost."""
    first = sign(signing, "image/png", image("PNG"))

    found = read_credentials(io.BytesIO(sign(signing, "image/png", first)), "image/png")

    assert found is not None and found.is_valid and len(found.ingredients) == 1


def test_a_configuration_that_cannot_work_is_an_error_before_anything_is_paid_for(chain: Chain, tmp_path: Path) -> None:
    """And says which setting is wrong; nothing of a key is quoted."""
    other, old = tmp_path / "other", tmp_path / "old"
    for folder in (other, old):
        folder.mkdir()
    stranger, expired = make_chain(other), make_chain(old, days=-1)
    wrong = {
        "cannot be read": SigningSettings(str(tmp_path / "none.pem"), str(chain.key)),
        "holds no certificate": SigningSettings(str(chain.key), str(chain.key)),
        "holds no private key": SigningSettings(str(chain.certificate), str(chain.certificate)),
        "is not that of": SigningSettings(str(chain.certificate), str(stranger.key)),
        "and not now": SigningSettings(str(expired.certificate), str(expired.key)),
    }
    for said, settings in wrong.items():
        with pytest.raises(ConfigurationError, match=said) as raised:
            Signing(settings, PROGRAM).check()
        assert "PRIVATE" not in raised.value.message
    Signing(SigningSettings(str(chain.certificate), str(chain.key)), PROGRAM).check()


@pytest.mark.parametrize("key_first", [False, True])
def test_a_private_key_beside_the_certificates_is_in_no_signed_file(
    chain: Chain, tmp_path: Path, key_first: bool
) -> None:
    """Many servers keep both in one file; the library would put each block of it into what it signs."""
    both = [chain.certificate.read_bytes(), chain.key.read_bytes()]
    file = tmp_path / "both.pem"
    file.write_bytes(b"".join(reversed(both) if key_first else both))
    secret = serialization.load_pem_private_key(chain.key.read_bytes(), None)
    written = secret.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    signed = sign(Signing(SigningSettings(str(file), str(file)), PROGRAM), "image/png", image("PNG"))

    found = read_credentials(io.BytesIO(signed), "image/png")
    assert found is not None and found.is_valid and found.signer == SIGNER
    assert written not in signed
    with pytest.raises(ConfigurationError, match="has a private key in it") as raised:
        SigningSettings(file.read_text(), str(chain.key))
    assert "BEGIN" not in raised.value.message


@pytest.mark.parametrize("packed", ["base64 of its lines", "its lines alone", "hexadecimal digits", "JSON"])
def test_a_key_without_its_frame_is_not_quoted_as_a_path(chain: Chain, packed: str) -> None:
    """It is taken for the name of a file, which is not there."""
    lines = chain.key.read_bytes().splitlines()
    key = {
        "base64 of its lines": base64.b64encode(b"\n".join(lines)), "its lines alone": b"".join(lines[1:-1]),
        "hexadecimal digits": base64.b64decode(b"".join(lines[1:-1])).hex().encode(),
        "JSON": b'{"kty": "EC", "d": "' + b"".join(lines[1:-1]) + b'"}',
    }[packed].decode()  # fmt: skip

    with pytest.raises(ConfigurationError, match="with its lines BEGIN and END") as raised:
        Signing(SigningSettings(str(chain.certificate), key), PROGRAM).check()

    assert not any(key[at : at + 8] in raised.value.message for at in range(0, len(key) - 8, 8))


def test_the_environment_says_who_signs(chain: Chain) -> None:
    """Off unless something is set; contradictions are named."""
    certificate, key = {"RUNCOMFY_SIGN_CERTIFICATE": "c.pem"}, {"RUNCOMFY_SIGN_KEY": "k.pem"}

    assert settings_from_environment({}) is None
    assert settings_from_environment({"RUNCOMFY_SIGN_REQUIRED": "no"}) is None
    assert settings_from_environment(certificate | key) == SigningSettings("c.pem", "k.pem")
    required = certificate | key | {"RUNCOMFY_SIGN_REQUIRED": "Yes"}
    assert settings_from_environment(required) == SigningSettings("c.pem", "k.pem", required=True)
    for wrong in (
        certificate, key, certificate | key | {"RUNCOMFY_SIGN_KMS_KEY": "alias/x"}, {"RUNCOMFY_SIGN_REQUIRED": "yes"},
        certificate | key | {"RUNCOMFY_SIGN_REQUIRED": "perhaps"}, certificate | key | {"RUNCOMFY_SIGN_TSA_URL": "tsa"},
        *(certificate | key | {"RUNCOMFY_SIGN_TSA_URL": url} for url in ("http://[::1", "https://:8", "http://a b")),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="RUNCOMFY_SIGN_"):
            settings_from_environment(wrong)


def test_a_full_disk_and_a_stop_end_the_signing(signing: Signing) -> None:
    """Neither hangs, and neither leaves anything that could be taken for a signed file."""

    class Full(io.BytesIO):
        def write(self, _: Any, /) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(Unsigned):
        signing.sign(io.BytesIO(image("PNG")), Full(), "image/png", STATEMENT)

    held, stopped = threading.Event(), threading.Event()

    class Stop(BaseException):
        pass

    def check() -> None:
        if stopped.is_set():
            raise Stop
        stopped.set()

    waits = Ingredient("slow.jpg", "image/jpeg", lambda: (held.wait(60), image("JPEG"))[1])
    with pytest.raises(Stop):
        signing.sign(io.BytesIO(image("PNG")), io.BytesIO(), "image/png", STATEMENT, ingredients=(waits,), check=check)
    held.set()
    assert sign(signing, "image/png", image("PNG"))


def _in_a_fork(signing: Signing, answers: Any) -> None:
    answers.put(len(sign(signing, "image/png", image("PNG"))))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_signs_too(signing: Signing) -> None:
    """Whatever this one was signing when it forked."""
    held = threading.Event()
    begun = threading.Semaphore(0)

    def wait() -> bytes:
        begun.release()
        held.wait(120)
        return image("JPEG")

    waits = Ingredient("slow.jpg", "image/jpeg", wait)
    threads = [
        threading.Thread(
            target=signing.sign, args=(io.BytesIO(image("PNG")), io.BytesIO(), "image/png", STATEMENT),
            kwargs={"ingredients": (waits,)},
        )
        for _ in range(2)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
        begun.acquire(timeout=60)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_in_a_fork, args=(signing, answers))
    process.start()

    try:
        assert answers.get(timeout=60) > 0
    finally:
        process.kill()
        process.join()
        held.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """AWS KMS, as moto plays it over the wire."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield boto3.Session().client("kms")
    server.stop()


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_of_key_in_kms_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Of more than KMS hashes by itself, as a claim with many ingredients is, it gets the digest."""
    with running_kms(kind) as kms:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.url)
        chain = make_chain(tmp_path, kms.key.public_key())
        signing = Signing(SigningSettings(str(chain.certificate), kms_key="alias/ours"), PROGRAM)
        many = tuple(Ingredient(f"input-{at}.png", "image/png", lambda: image("PNG")) for at in range(50))

        signed = [sign(signing, "image/png", image("PNG"), ingredients=given) for given in ((), many)]

    found = [read_credentials(io.BytesIO(data), "image/png") for data in signed]
    assert [each is not None and (each.is_valid, len(each.ingredients)) for each in found] == [(True, 0), (True, 50)]
    assert (kms.asked[0], kms.asked[-1]) == ("RAW", "DIGEST")


def test_a_key_in_kms_signs(kms: Any, tmp_path: Path) -> None:
    """It never leaves KMS; one that is gone is said in words, and is no reason to lose a file."""
    made = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    public = load_der_public_key(kms.get_public_key(KeyId=made)["PublicKey"])
    chain = make_chain(tmp_path, public)
    signing = Signing(SigningSettings(str(chain.certificate), kms_key=made, required=True), PROGRAM)

    signing.check()
    found = read_credentials(io.BytesIO(sign(signing, "video/mp4", video())), "video/mp4")

    assert found is not None and found.is_valid and found.signer == SIGNER
    kms.disable_key(KeyId=made)
    missing = Signing(SigningSettings(str(chain.certificate), kms_key="alias/none", required=True), PROGRAM)
    with pytest.raises(ConfigurationError, match="AWS KMS refused the key alias/none"):
        missing.check()
    Signing(SigningSettings(str(chain.certificate), kms_key="alias/none"), PROGRAM).check()  # only a warning


FORMS = {
    "as in a file": lambda pem: pem,
    "with the ends of lines of Windows": lambda pem: pem.replace("\n", "\r\n"),
    "in one line": lambda pem: pem.replace("\n", " "),
    "without ends of lines": lambda pem: pem.replace("\n", ""),
    "with ends of lines as text": lambda pem: pem.replace("\n", "\\n"),
    "indented": lambda pem: "".join(f"    {line}\n" for line in pem.splitlines()),
    "with words around it": lambda pem: f"Bag Attributes: none\n{pem}\n# the end",
}


@pytest.mark.parametrize("form", FORMS)
def test_certificate_and_key_may_be_given_themselves(chain: Chain, form: str) -> None:
    """As forms, secrets of clusters and variables hold them; nothing of the key is in what is shown."""
    certificate, key = (FORMS[form](path.read_text()) for path in (chain.certificate, chain.key))
    settings = settings_from_environment({"RUNCOMFY_SIGN_CERTIFICATE": certificate, "RUNCOMFY_SIGN_KEY": key})
    assert settings is not None

    signing = Signing(settings, PROGRAM)
    signing.check()

    assert signing.works and "PRIVATE" not in repr(settings) + settings.key_name + settings.certificate_name


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl ts plays the time-stamp authority")
def test_a_time_stamp_is_in_the_signature(chain: Chain, tmp_path: Path) -> None:
    """With the authority's time; one whose answer is none is said before anything is paid for."""
    with running_authority(tmp_path) as url:
        stamping = Signing(SigningSettings(str(chain.certificate), str(chain.key), tsa_url=url, required=True), PROGRAM)
        signed = sign(stamping, "image/png", image("PNG"))
        (tmp_path / "settings").unlink()
        with pytest.raises(ConfigurationError, match="Files cannot be signed"):
            stamping.check()

    with c2pa.Reader("image/png", io.BytesIO(signed)) as reader:
        found = json.loads(reader.json())
    assert found["manifests"][found["active_manifest"]]["signature_info"]["time"]
    codes = {each["code"] for each in found["validation_results"]["activeManifest"]["success"]}
    assert {"timeStamp.validated", "claimSignature.validated"} <= codes
    credentials = read_credentials(io.BytesIO(signed), "image/png")
    assert credentials is not None and credentials.is_valid


@pytest.mark.parametrize("trouble", ["OSError('libc2pa_c.so: cannot open')", "RuntimeError('wrong machine')", ""])
def test_a_library_that_cannot_be_loaded_counts_as_missing(trouble: str, chain: Chain, tmp_path: Path) -> None:
    """That is said with what to install, before anything is paid for."""
    (tmp_path / "c2pa.py").write_text(f"raise {trouble}" if trouble else "raise ImportError('no symbol', name='c2pa')")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from runcomfy.content_credentials import Signing, SigningSettings\n"
        "from runcomfy.content_credentials.reading import is_installed\n"
        "from runcomfy.errors import ConfigurationError\n"
        "try: Signing(SigningSettings(*sys.argv[2:]), ('x', '1')).check()\n"
        "except ConfigurationError as error: print(is_installed(), error.message)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(chain.certificate), str(chain.key)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip

    assert done.stdout.startswith("False Signing files needs c2pa") and "prefect-runcomfy[c2pa]" in done.stdout
