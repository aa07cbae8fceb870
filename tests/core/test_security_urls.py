"""UrlPolicy: what may be fetched, and what may be connected to."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError, FetchError, FetchRefusedError
from oneiric.core.security import UrlPolicy


def test_a_public_https_url_is_taken_apart() -> None:
    parts = UrlPolicy().check_url("https://Example.ORG./a/b?c=d#e")
    assert (parts.scheme, parts.host, parts.port, parts.target) == ("https", "example.org", 443, "/a/b?c=d")
    assert parts.address is None


def test_a_url_without_a_path_asks_for_the_root() -> None:
    assert UrlPolicy().check_url("https://example.org").target == "/"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.org/", "scheme"),
        ("//example.org/", "scheme"),
        ("https:///path", "no host"),
        ("https://user:pw@example.org/", "credentials"),
        ("https://example.org@evil.example/", "credentials"),
        ("https://example.org:8443/", "port 8443"),
        ("https://example.org:0/", "port 0"),
        ("https://example.org:99999/", "malformed"),
        ("https://example.org:x/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://exa mple.org/", "plain"),
        ("https://example.org\\@evil.example/", "plain"),
        ("https://example.org/\r\nHost: evil", "plain"),
        ("https://example.org/\x00", "plain"),
        ("https://exаmple.org/", "plain"),  # noqa: RUF001 - a Cyrillic letter is the point
        ("https://exa%6dple.org/", "host name"),
        ("https://-example.org/", "host name"),
        ("https://example..org/", "host name"),
        ("https://" + "a" * 3000, "plain"),
        ("https://" + "a." * 200 + "org/", "host name"),
        ("", "plain"),
        (None, "plain"),
    ],
)
def test_what_is_malformed_ambiguous_or_outside_the_policy_is_refused(url: object, said: str) -> None:
    with pytest.raises(FetchRefusedError, match=said) as caught:
        UrlPolicy().check_url(url)
    assert isinstance(caught.value, FetchError)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104 - refused, not bound
        "255.255.255.255",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127.0.0.1.",
    ],
)
def test_every_spelling_of_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(FetchRefusedError):
        UrlPolicy().check_url(f"https://{host}/")


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700:4700::1111]"])
def test_a_public_address_passes(host: str) -> None:
    assert UrlPolicy().check_url(f"https://{host}/").address == ip_address(host.strip("[]"))


def test_only_listed_hosts_are_asked_and_a_star_stands_for_names_below() -> None:
    policy = UrlPolicy(hosts=("Example.org", "*.acme.example"))
    passing = ["example.org", "a.acme.example", "a.b.acme.example", "EXAMPLE.org."]
    refused = ["acme.example", "evilacme.example", "a.example.org", "example.org.evil.example"]
    passed = []
    for host in passing + refused:
        try:
            policy.check_url(f"https://{host}/")
        except FetchRefusedError as error:
            assert "acme.example" in str(error)  # noqa: PT017 - which hosts are refused is the assertion below
        else:
            passed.append(host)
    assert passed == passing


def test_listed_ports_and_schemes_are_allowed_besides_the_usual() -> None:
    policy = UrlPolicy(schemes=("http", "https"), ports=(8080,))
    assert policy.check_url("http://example.org/").port == 80
    assert policy.check_url("http://example.org:8080/").port == 8080
    with pytest.raises(FetchRefusedError):
        policy.check_url("http://example.org:443/")


def test_private_networks_are_reached_only_where_they_are_listed() -> None:
    policy = UrlPolicy(private_networks=("127.0.0.0/8", "fd00::/8"))
    assert policy.check_address("127.0.0.9") == ip_address("127.0.0.9")
    assert policy.check_address("::ffff:127.0.0.9").version == 6
    assert policy.check_address("fd12::1") == ip_address("fd12::1")
    for address in ("10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1"):
        with pytest.raises(FetchRefusedError, match="is not public"):
            policy.check_address(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_form(address: object) -> None:
    plain = ip_address(str(address))
    number = int(plain)
    policy = UrlPolicy()

    def passes(text: str) -> bool:
        try:
            policy.check_address(text)
        except FetchRefusedError:
            return False
        return True

    forms = [f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"]
    if passes(str(plain)):
        assert plain.is_global
    assert {passes(form) for form in forms} == {passes(str(plain))}


@pytest.mark.parametrize("address", ["", "x", "1.2.3", "127.0.0.1/8", "example.org"])
def test_what_is_not_an_address_is_refused_as_such(address: str) -> None:
    with pytest.raises(FetchRefusedError, match="is not an IP address"):
        UrlPolicy().check_address(address)


def test_credentials_and_queries_never_reach_the_sentence() -> None:
    with pytest.raises(FetchRefusedError) as caught:
        UrlPolicy().check_url("https://user:hunter2@example.org/x?token=hunter3")
    assert "hunter" not in str(caught.value)


def test_a_malformed_policy_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="is not a network"):
        UrlPolicy(private_networks=("10.0.0.1/8x",))
    with pytest.raises(ConfigurationError, match="must be a sequence"):
        UrlPolicy(hosts="example.org")  # type: ignore[arg-type]  # the mistake under test
