"""Where connections lead: to the address that was checked, or nowhere."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trustme
from tests.remote.fetching import PATIENT, fetcher, serving, trusting

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, FetchError, FetchRefusedError, FetchTimeoutError
from oneiric.remote.fetch import Credential, FetchPolicy, SafeFetcher
from oneiric.remote.testing_http import MisbehavingServer

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "updates.test"


class Names:
    """A resolver whose answers are listed; the last one is repeated."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def policy(server: MisbehavingServer, *networks: str) -> FetchPolicy:
    return FetchPolicy(hosts=(NAME,), http_hosts=(NAME,), ports=(server.port,), private_networks=networks)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    names = Names(["127.0.0.1"])
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        await fetcher(server, lookup=names).fetch(server.url("/m.json", NAME))
    assert names.asked == [NAME]
    assert server.requests[0].headers["host"] == f"{NAME}:{server.port}"


async def test_a_name_that_is_rebound_between_check_and_use_leads_nowhere_else() -> None:
    """The first answer passes, and nobody is there; a client that looked the name up again would find the server."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with MisbehavingServer() as server:
        client = SafeFetcher(policy(server, "127.0.0.2/32"), replace(PATIENT, attempts=1), lookup=names)
        with pytest.raises(FetchError, match=r"nobody answers at 127\.0\.0\.2"):
            await client.fetch(server.url("/m.json", NAME))
    assert names.asked == [NAME]
    assert server.connections == 0


async def test_a_name_that_is_rebound_between_two_attempts_is_checked_again() -> None:
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with MisbehavingServer() as server:
        client = SafeFetcher(policy(server, "127.0.0.2/32"), replace(PATIENT, attempts=2), lookup=names)
        with pytest.raises(FetchRefusedError, match=r"'127\.0\.0\.1' is refused: it is not public"):
            await client.fetch(server.url("/m.json", NAME))
    assert len(names.asked) == 2
    assert server.connections == 0


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "x"],  # noqa: S104
)
async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(address: str) -> None:
    async with MisbehavingServer() as server:
        client = SafeFetcher(policy(server), lookup=Names([address]))
        with pytest.raises(FetchRefusedError, match=f"refused by where '{NAME}' leads"):
            await client.fetch(server.url("/m.json", NAME))
    assert server.connections == 0


async def test_one_address_outside_the_policy_refuses_them_all() -> None:
    async with MisbehavingServer() as server:
        client = SafeFetcher(policy(server, "127.0.0.0/8"), lookup=Names(["127.0.0.1", "10.0.0.1"]))
        with pytest.raises(FetchRefusedError, match=r"10\.0\.0\.1"):
            await client.fetch(server.url("/m.json", NAME))
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433", "other.test"])
async def test_a_host_that_is_not_listed_or_not_public_is_not_asked(host: str) -> None:
    async with MisbehavingServer() as server:
        client = SafeFetcher(policy(server))
        with pytest.raises(FetchRefusedError):
            await client.fetch(server.url("/m.json", host))
    assert server.connections == 0


async def test_the_next_address_is_tried_where_the_first_does_not_answer() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        names = Names(["127.0.0.2", "127.0.0.1"])  # the server listens on the second alone
        assert (await fetcher(server, lookup=names).fetch(server.url("/m.json", NAME))).content == b"{}"


async def test_a_name_without_addresses_and_a_port_without_server_are_errors_of_ours() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    async with MisbehavingServer() as server:
        closed = server.url("/m.json", NAME)
        for lookup, said in ((unknown, "was not found"), (Names([]), "has no address")):
            with pytest.raises(FetchError, match=said):
                await fetcher(server, lookup=lookup).fetch(closed)
    with pytest.raises(FetchError, match=r"nobody answers at 127\.0\.0\.1"):
        await fetcher(server, lookup=Names(["127.0.0.1"])).fetch(closed)


async def test_a_lookup_that_hangs_is_cut_by_the_time_to_connect() -> None:
    async def hanging(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with MisbehavingServer() as server:
        client = fetcher(server, replace(PATIENT, connect_seconds=0.05), lookup=hanging)
        with pytest.raises(FetchTimeoutError, match=r"did not connect within 0\.05 s"):
            await client.fetch(server.url("/m.json", NAME))


async def test_a_handshake_that_hangs_is_cut_by_the_time_to_connect(authority: trustme.CA) -> None:
    """The server speaks no TLS: it waits for a request that never comes."""
    async with MisbehavingServer() as server:
        options = {"policy": policy(server, "127.0.0.0/8"), "tls": trusting(authority), "lookup": Names(["127.0.0.1"])}
        client = fetcher(server, replace(PATIENT, connect_seconds=0.1), **options)
        with pytest.raises(FetchTimeoutError, match=r"did not connect within 0\.1 s"):
            await client.fetch(f"https://{NAME}:{server.port}/m.json")
    assert server.requests == []


def over_tls(server: MisbehavingServer, authority: trustme.CA, **options: object) -> SafeFetcher:
    return SafeFetcher(
        FetchPolicy(ports=(server.port,), private_networks=("127.0.0.0/8",)),
        PATIENT,
        tls=trusting(authority),
        lookup=Names(["127.0.0.1"]),
        **options,  # type: ignore[arg-type]  # named by the tests below
    )


async def test_tls_is_verified_for_the_name_and_not_for_the_address(authority: trustme.CA) -> None:
    async with MisbehavingServer(serving(authority.issue_cert(NAME))) as server:
        server.publish("/m.json", b"{}")
        result = await over_tls(server, authority).fetch(server.url("/m.json", NAME))
    assert result.content == b"{}"
    assert server.requests[0].sni == NAME


YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (lambda ca: ca.issue_cert("other.test"), "Hostname mismatch"),
        (lambda ca: ca.issue_cert("127.0.0.1"), "Hostname mismatch"),
        (lambda ca: ca.issue_cert(NAME, not_before=YESTERDAY, not_after=YESTERDAY), "expired"),
        (lambda _: trustme.CA().issue_cert(NAME), "certificate"),
    ],
    ids=["of another host", "of the address", "expired", "of another authority"],
)
async def test_a_certificate_that_does_not_prove_the_name_is_refused_and_nothing_is_sent(
    authority: trustme.CA, certificate: object, said: str
) -> None:
    assert callable(certificate)
    async with MisbehavingServer(serving(certificate(authority))) as server:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaint
        client = over_tls(server, authority)
        with pytest.raises(FetchRefusedError, match=said):
            await client.fetch(server.url("/m.json", NAME))
    assert server.requests == []


async def test_by_default_the_authorities_of_the_system_decide(authority: trustme.CA) -> None:
    async with MisbehavingServer(serving(authority.issue_cert(NAME))) as server:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaint
        client = SafeFetcher(policy(server, "127.0.0.0/8"), PATIENT, lookup=Names(["127.0.0.1"]))
        with pytest.raises(FetchRefusedError, match="does not prove the name"):
            await client.fetch(server.url("/m.json", NAME))
    assert server.requests == []


async def test_a_context_that_does_not_verify_is_a_configuration_error() -> None:
    blind = ssl.create_default_context()
    blind.check_hostname = False
    with pytest.raises(ConfigurationError, match="must verify"):
        SafeFetcher(tls=blind)


async def test_a_credential_goes_to_its_origin_and_to_no_mirror(authority: trustme.CA) -> None:
    certificate = authority.issue_cert(NAME, "mirror.test")
    secret = Secret("Bearer S3CR3T-canary")
    async with MisbehavingServer(serving(certificate)) as origin, MisbehavingServer(serving(certificate)) as mirror:
        mirror.publish("/m.json", b"{}")
        told: list[object] = []
        client = SafeFetcher(
            FetchPolicy(ports=(origin.port, mirror.port), private_networks=("127.0.0.0/8",)),
            PATIENT,
            credentials=[Credential(origin=f"https://{NAME}:{origin.port}", value=secret)],
            tls=trusting(authority),
            lookup=Names(["127.0.0.1"]),
            observe=told.append,
        )
        # The same name on another port is another origin, and so is another name on the same port.
        mirrors = (mirror.url("/404", NAME), origin.url("/404", "mirror.test"), mirror.url("/m.json", "mirror.test"))
        result = await client.fetch(origin.url("/401", NAME), mirrors=mirrors)
        with pytest.raises(FetchError) as caught:
            await client.fetch(origin.url("/401", NAME))
    assert result.source == "mirror"
    assert [request.headers.get("authorization") for request in origin.requests] == [
        "Bearer S3CR3T-canary",
        None,
        "Bearer S3CR3T-canary",
    ]
    assert [request.headers.get("authorization") for request in mirror.requests] == [None, None]
    assert "S3CR3T" not in f"{caught.value!r} {caught.value} {told} {client!r} {client.__dict__}"


@pytest.mark.parametrize(
    ("origin", "header", "value"),
    [
        ("http://updates.test", "Authorization", "x"),
        ("updates.test", "Authorization", "x"),
        ("https://user:pw@updates.test", "Authorization", "x"),
        ("https://updates.test:port", "Authorization", "x"),
        ("https://updates.test", "Host", "x"),
        ("https://updates.test", "Accept-Encoding", "gzip"),
        ("https://updates.test", "X\r\nY", "x"),
        ("https://updates.test", "", "x"),
        ("https://updates.test", "Authorization", "S3CR3T\r\nX-Evil: 1"),
        ("https://updates.test", "Authorization", "S3CR3T größer"),
        ("https://updates.test", "Authorization", ""),
    ],
)
def test_a_credential_that_could_leak_or_inject_is_a_configuration_error(origin: str, header: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Credential(origin=origin, header=header, value=Secret(value))
    assert "S3CR3T" not in str(caught.value)


async def test_the_environment_names_no_proxy_unless_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MisbehavingServer() as server, MisbehavingServer() as proxy:
        for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
        server.publish("/m.json", b"direct")
        url = server.url("/m.json", NAME)
        proxy.publish(url, b"by proxy")
        assert (await fetcher(server, lookup=Names(["127.0.0.1"])).fetch(url)).content == b"direct"
        assert proxy.connections == 0
        for through in ({"proxy_from_environment": True}, {"proxy": proxy.url("")}):
            given = FetchPolicy(http_hosts=(NAME,), ports=(server.port,), **through)
            client = SafeFetcher(given, PATIENT, lookup=Names(["127.0.0.1"]))
            assert (await client.fetch(url)).content == b"by proxy"
        monkeypatch.setenv("no_proxy", NAME)
        given = FetchPolicy(
            http_hosts=(NAME,), ports=(server.port,), private_networks=("127.0.0.0/8",), proxy_from_environment=True
        )
        assert (await SafeFetcher(given, PATIENT, lookup=Names(["127.0.0.1"])).fetch(url)).content == b"direct"
    assert proxy.connections == 2
