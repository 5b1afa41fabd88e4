from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.download.hosts import HostPolicy, check_reachable
from runcomfy.errors import ConfigurationError, HostNotAllowed


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        (("*.runcomfy.net",), "https://cdn.runcomfy.net/video.mp4"),
        (("*.runcomfy.net",), "https://a.b.RunComfy.net./video.mp4"),
        (("example.com",), "https://example.com/video.mp4"),
        (("example.com",), "http://example.com:8080/video.mp4"),
        (("127.0.0.1:8188",), "http://127.0.0.1:8188/view"),
        (("example.com:80",), "http://example.com/view"),
        (("[::1]:8188",), "http://[::1]:8188/view"),
        (("::1",), "http://[::1]:9/view"),
        (("*",), "https://example.org/a"),
    ],
)
def test_listed_hosts_pass(allowed: tuple[str, ...], url: str) -> None:
    """A host that an entry covers may be read from."""
    HostPolicy(allowed).check_url(url)


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        (("*.runcomfy.net",), "https://runcomfy.net/video.mp4"),
        (("*.runcomfy.net",), "https://evilruncomfy.net/video.mp4"),
        (("*.runcomfy.net",), "https://cdn.runcomfy.net.evil.com/video.mp4"),
        (("*.runcomfy.net",), "http://cdn.runcomfy.net/video.mp4"),
        (("*.runcomfy.net",), "https://cdn.runcomfy.net@evil.com/video.mp4"),
        (("*.runcomfy.net",), "https://evil.com\\@cdn.runcomfy.net/video.mp4"),
        (("*.runcomfy.net",), "https://user:word@cdn.runcomfy.net/video.mp4"),
        (("example.com",), "https://www.example.com/video.mp4"),
        (("127.0.0.1:8188",), "http://127.0.0.1:8189/view"),
        (("127.0.0.1:8188",), "https://127.0.0.1/view"),
        (("*",), "http://example.org/a"),
        (("*",), "ftp://example.org/a"),
        (("*",), "file:///etc/passwd"),
        (("*",), "https:///a"),
        (("*",), "no url at all"),
        (("*",), "https://[::1/a"),
        ((), "https://cdn.runcomfy.net/video.mp4"),
    ],
)
def test_other_hosts_are_refused(allowed: tuple[str, ...], url: str) -> None:
    """A host that no entry covers, plain http without an exact name, and a URL with a user are refused."""
    with pytest.raises(HostNotAllowed):
        HostPolicy(allowed).check_url(url)


@pytest.mark.parametrize("host", ["cdn.runcomfy.net", "files.runcomfy.com", "A.B.RUNCOMFY.COM"])
def test_the_hosts_of_the_service_are_trusted_by_default(host: str) -> None:
    """Those that its files were seen on, and those that its own command line trusts; neither bare names nor http."""
    HostPolicy().check_url(f"https://{host}/video.mp4")

    for url in (f"http://{host}/video.mp4", "https://runcomfy.com/video.mp4", f"https://{host}.example.com/video.mp4"):
        with pytest.raises(HostNotAllowed):
            HostPolicy().check_url(url)


def test_a_refusal_names_the_host_and_not_the_signature() -> None:
    """The refusal says which host to add and where, and does not show the query."""
    with pytest.raises(HostNotAllowed) as refused:
        HostPolicy().check_url("https://elsewhere.example/v.mp4?X-Amz-Signature=s3cr3t")

    assert "elsewhere.example" in str(refused.value)
    assert "RUNCOMFY_OUTPUT_HOSTS" in str(refused.value)
    assert "s3cr3t" not in repr(refused.value) + repr(refused.value.facts)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """A wildcard never allows a private network, whatever form its address is written in."""
    with pytest.raises(HostNotAllowed):
        HostPolicy(("*",)).check_address("innocent.example", address)


PRIVATE = [
    "127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.1",
    "0", "0.0.0.0", "10.0.0.7", "0xa.7", "172.16.0.1", "192.168.1.1", "3232235777", "169.254.169.254", "2852039166",
    "0xa9fea9fe", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::127.0.0.1]", "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]",
    "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:db8::1]", "[2001:0:1::1]", "[64:ff9b:1::1]",
    "[fec0::1]",
    "localhost", "LocalHost", "localhost.",
    "a.localhost", "localhost.localdomain", "metadata.google.internal", "printer.local", "intranet", "nas.lan",
    "router.home.arpa", "wiki.corp",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_private_address_is_refused_by_its_text(host: str, scheme: str) -> None:
    """In every spelling that a resolver understands, and names that are never on the internet: nothing connects."""
    with pytest.raises(HostNotAllowed, match="private address") as refused:
        HostPolicy(("*",)).check_url(f"{scheme}://{host}:8080/image.png")

    assert refused.value.address is not None
    with pytest.raises(ConfigurationError):
        check_reachable(f"https://{host}/image.png")


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "\u2460\u2461\u2466.0.0.1",
        "%31%32%37.0.0.1",
        "127.0.0.1%00.example.com",
        "lo­calhost",
    ],
)
def test_a_host_in_other_letters_is_no_host(host: str) -> None:
    """What a resolver or a proxy may turn into digits or dots."""
    with pytest.raises(HostNotAllowed):
        HostPolicy(("*",)).check_url(f"https://{host}/image.png")


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "134744072",
        "0x8.0x8.0x8.0x8",
        "example.com",
        "localhost.example.com",
        "10.0.0.1.nip.io",
        "[2606:4700::1111]",
    ],
)
def test_other_hosts_pass_by_their_text(host: str) -> None:
    """A name may still lead to a private address, which is checked before connecting."""
    HostPolicy(("*",)).check_url(f"https://{host}/image.png")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/a.png", "without encryption. Use https://"),
        ("https://me:pass@example.com/a.png", "user name or a password"),
        ("https:///a.png", "no host"),
        ("https://[::1/a.png", "https://"), ("ftp://example.com/a.png", "begins with ftp:"),
        ("https://10.0.0.7/a.png", "nothing was sent"),
    ],
)  # fmt: skip
def test_each_refusal_says_why_and_what_to_do(url: str, words: str) -> None:
    """With the advice of the policy, which is another one for an input than for an output."""
    with pytest.raises(HostNotAllowed) as refused:
        HostPolicy(("*",), advice="Give it as a file.").check_url(url)

    assert words in refused.value.message
    assert (
        "pass" not in refused.value.message.replace("password", "") and "RUNCOMFY_OUTPUT" not in refused.value.message
    )


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_pass(address: str) -> None:
    """A public address is good for any allowed host."""
    HostPolicy(("*",)).check_address("example.com", address)


def test_an_exact_name_may_be_private() -> None:
    """A host that is named exactly may be in a private network, on the port that was named."""
    HostPolicy(("media.internal",)).check_address("media.internal:8443", "10.0.0.7")
    HostPolicy(("localhost:8188",)).check_address("localhost:8188", "127.0.0.1")

    with pytest.raises(HostNotAllowed):
        HostPolicy(("localhost:8188", "*")).check_address("localhost:22", "127.0.0.1")


@pytest.mark.parametrize("pattern", ["", "*.", "*example.com", "a.*.com", "https://example.com", "*.example.com:80"])
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    """A pattern that would silently never match, or match too much, is a mistake in the configuration."""
    with pytest.raises(ConfigurationError):
        HostPolicy((pattern,))


@given(st.ip_addresses())
def test_every_address_is_checked(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Whatever the standard library calls private is refused, in its v4-mapped form too."""
    forms = [str(address), f"::ffff:{address}"] if address.version == 4 else [str(address)]
    for form in forms:
        try:
            HostPolicy(("*",)).check_address("example.com", form)
        except HostNotAllowed:
            continue
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96") or address.ipv4_mapped


@given(st.text(max_size=60))
def test_any_text_is_checked(text: str) -> None:
    """No text crashes the check: it passes or is not allowed."""
    for url in (text, f"https://{text}", f"https://example.com:{text}"):
        try:
            HostPolicy(("*",)).check_url(url)
        except HostNotAllowed:
            continue
