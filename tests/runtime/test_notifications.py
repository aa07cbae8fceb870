"""A record reaches whom its route names, reads as published, and leaves a receipt; what was not sent is an error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core import Candidate, LifecycleManager, Resolver, Secret
from oneiric.core.errors import AdapterError, CandidateNotFoundError, ConfigurationError, UnavailableError
from oneiric.domains import AdapterBridge
from oneiric.runtime.notifications import (
    NotificationMessage,
    NotificationRecord,
    NotificationRoute,
    NotificationRouter,
    Receipt,
    default_adapter_key,
)


@dataclass
class Sent:
    message_id: str
    status_code: int = 200


@dataclass
class Post:
    """A messenger that keeps what it is given, and cannot reach some."""

    sent: list[NotificationMessage] = field(default_factory=list)
    unreachable: tuple[str, ...] = ()

    async def send(self, message: NotificationMessage) -> Any:
        if message.target in self.unreachable:
            raise UnavailableError(f"no way to {message.target}", "later")
        self.sent.append(message)
        return Sent(f"m{len(self.sent)}")


@dataclass
class Posts:
    post: Post = field(default_factory=Post)
    leases: list[tuple[str, str | None]] = field(default_factory=list)
    held: int = 0

    @asynccontextmanager
    async def lease(self, key: str, *, provider: str | None = None) -> AsyncIterator[Post]:
        self.leases.append((key, provider))
        self.held += 1
        try:
            yield self.post
        finally:
            self.held -= 1


RECORD = NotificationRecord(message="all stages done", level="warning", channel="deploys", context={"run": 7})


async def sent(record: NotificationRecord, route: NotificationRoute | None = None) -> list[NotificationMessage]:
    posts = Posts()
    await NotificationRouter(posts, default_adapter_key="messaging").send(record, route)
    return posts.post.sent


async def test_a_record_reads_as_published_and_leaves_a_receipt() -> None:
    posts = Posts()
    router = NotificationRouter(posts, default_adapter_key="messaging")

    receipts = await router.send(RECORD)

    assert receipts == (
        Receipt(adapter_key="messaging", adapter_provider=None, target="deploys", message_id="m1", status_code=200),
    )
    assert receipts[0].as_dict()["message_id"] == "m1"
    (message,) = posts.post.sent
    assert message.title == "[WARNING] deploys"
    assert message.text == "all stages done\n\nContext:\n- run: 7"
    assert posts.held == 0


@pytest.mark.parametrize(
    ("route", "recipients", "targets"),
    [
        (NotificationRoute(target="#ops", channel="#all"), ("ann",), ["#ops"]),
        (NotificationRoute(channel="#all"), ("ann",), ["#all"]),
        (NotificationRoute(), ("ann", "bob", "ann"), ["ann", "bob"]),
        (NotificationRoute(), (), ["deploys"]),
    ],
)
async def test_the_route_names_the_target_before_the_record_does(
    route: NotificationRoute, recipients: tuple[str, ...], targets: list[str]
) -> None:
    record = NotificationRecord(message="done", channel="deploys", recipients=recipients)

    assert [message.target for message in await sent(record, route)] == targets


async def test_the_route_names_the_messenger() -> None:
    posts = Posts()
    router = NotificationRouter(posts, default_adapter_key="messaging")

    (receipt,) = await router.send(RECORD, NotificationRoute(adapter_key="pager", adapter_provider="slack"))

    assert posts.leases == [("pager", "slack")]
    assert (receipt.adapter_key, receipt.adapter_provider) == ("pager", "slack")


async def test_without_a_messenger_the_error_names_the_selection_to_make() -> None:
    with pytest.raises(ConfigurationError, match=r"adapters\.selections\.messaging") as caught:
        await NotificationRouter(Posts()).send(RECORD)

    assert "'all stages done' names no messenger" in caught.value.message


async def test_a_failing_send_is_raised_as_it_is() -> None:
    posts = Posts(Post(unreachable=("deploys",)))

    with pytest.raises(UnavailableError, match="no way to deploys") as caught:
        await NotificationRouter(posts, default_adapter_key="messaging").send(RECORD)

    assert not hasattr(caught.value, "__notes__")
    assert posts.held == 0


async def test_one_that_cannot_be_reached_does_not_block_the_others() -> None:
    posts = Posts(Post(unreachable=("ann",)))
    record = NotificationRecord(message="done", recipients=("ann", "bob", "cid"))

    with pytest.raises(UnavailableError, match="no way to ann") as caught:
        await NotificationRouter(posts, default_adapter_key="messaging").send(record)

    assert [message.target for message in posts.post.sent] == ["bob", "cid"]
    assert caught.value.__notes__ == ["reached: bob (m1), cid (m2); not reached: ann (UnavailableError)"]


async def test_a_messenger_without_a_receipt_has_not_sent() -> None:
    class Silent(Post):
        async def send(self, message: NotificationMessage) -> Any:
            return None

    with pytest.raises(AdapterError, match="returned NoneType for a message to 'deploys', not a receipt"):
        await NotificationRouter(Posts(Silent()), default_adapter_key="messaging").send(RECORD)


async def test_an_adapter_bridge_is_a_source_of_messengers() -> None:
    resolver, post = Resolver(), Post()
    resolver.register(Candidate(domain="adapter", key="messaging", provider="post", factory=lambda: post))
    async with LifecycleManager(resolver) as lifecycle:
        router = NotificationRouter(AdapterBridge(resolver=resolver, lifecycle=lifecycle))

        (receipt,) = await router.send(RECORD, NotificationRoute(adapter_key="messaging"))
        assert receipt.message_id == "m1"

        with pytest.raises(CandidateNotFoundError, match=r"adapter:pager has no eligible candidate.*oneiric list"):
            await router.send(RECORD, NotificationRoute(adapter_key="pager"))


# Titles and texts


async def test_a_title_is_as_it_stands_a_template_is_filled_in() -> None:
    template = "{level}/{channel}: {message} {{x}}"
    (message,) = await sent(RECORD, NotificationRoute(title_template=template))
    assert message.title == "warning/deploys: all stages done {x}"

    (message,) = await sent(RECORD, NotificationRoute(title="{level}", title_template=template))
    assert message.title == "{level}"


@pytest.mark.parametrize(
    "template",
    ["{message.__class__}", "{message[0]}", "{level!r}", "{level:>99999999}", "{other}", "{}", "{0}", "{level", "}"],
)
def test_a_template_reaches_nothing_but_the_text_of_its_fields(template: str) -> None:
    with pytest.raises(ConfigurationError, match="title template"):
        NotificationRoute(title_template=template)


@given(st.text(), st.text(), st.text())
def test_no_text_of_a_record_is_taken_for_a_template(level: str, channel: str, text: str) -> None:
    from oneiric.runtime import notifications  # noqa: PLC0415 - its rendering is pure, and private

    route = NotificationRoute(title_template="{level}|{channel}|{message}")
    record = NotificationRecord(message=text, level=level, channel=channel)
    message = notifications._message(record, route, None)
    assert message.text == text
    assert message.title is not None
    assert message.title.count("\n") == 0
    assert message.title == " ".join(
        "".join(c if c.isprintable() else " " for c in f"{level}|{channel}|{text}").split()
    )


async def test_no_value_forges_a_line_and_no_secret_is_told() -> None:
    context = {"who": "ann\n- admin: yes", "token": Secret("canary-4711")}
    record = NotificationRecord(message="done", channel="a\r\nBcc: all", context=context)

    (message,) = await sent(record)

    assert message.title == "[INFO] a Bcc: all"
    assert message.text.splitlines()[2:] == ["Context:", "- who: ann - admin: yes", "- token: ***"]


async def test_a_context_can_be_left_out() -> None:
    (message,) = await sent(RECORD, NotificationRoute(include_context=False, extra_payload={"icon": ":ship:"}))

    assert message.text == "all stages done"
    assert message.extra_payload == {"icon": ":ship:"}


# What manifests and actions state


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, NotificationRoute()),
        ({"notifications": None}, NotificationRoute()),
        (
            {"notifications": {"adapter": "pager", "provider": "slack", "target": "#ops", "title": "{level}!"}},
            NotificationRoute(adapter_key="pager", adapter_provider="slack", target="#ops", title_template="{level}!"),
        ),
        ({"notifications": {"adapter_provider": "pager"}}, NotificationRoute(adapter_key="pager")),
        (
            {"notifications": {"adapter_key": "pager", "adapter_provider": "slack", "include_context": False}},
            NotificationRoute(adapter_key="pager", adapter_provider="slack", include_context=False),
        ),
        (
            {"notifications": {"channel": "#all", "extra_payload": {"a": 1}}},
            NotificationRoute(channel="#all", extra_payload={"a": 1}),
        ),
    ],
)
def test_a_route_is_read_from_the_metadata_of_a_workflow(stated: dict[str, Any], expected: NotificationRoute) -> None:
    assert NotificationRoute.from_metadata(stated) == expected


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ("slack", r"notifications: is of type str\. Try: a mapping"),
        ({"chanel": "#ops"}, r"notifications\.chanel: is unknown\. Try: channel"),
        ({"target": 7}, r"notifications\.target: is of type int\. Try: text"),
        ({"include_context": "no"}, r"notifications\.include_context: is of type str\. Try: true or false"),
        ({"extra_payload": []}, r"notifications\.extra_payload: is of type list\. Try: a mapping"),
    ],
)
def test_a_route_that_cannot_be_meant_is_refused(stated: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        NotificationRoute.from_metadata({"notifications": stated})


def test_a_record_is_read_from_the_result_of_the_action() -> None:
    result = {"status": "queued", "message": "done", "level": "error", "channel": "ops", "recipients": ["ann"]}

    assert NotificationRecord.from_result(result) == NotificationRecord(
        message="done", level="error", channel="ops", recipients=("ann",)
    )
    assert NotificationRecord.from_result({"message": "done"}) == NotificationRecord(message="done")


@pytest.mark.parametrize(
    "result", [{}, {"message": 7}, {"message": "x", "recipients": "ann"}, {"message": "x", "context": [1]}]
)
def test_a_result_that_says_nothing_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a notification has"):
        NotificationRecord.from_result(result)


def test_the_default_messenger_is_the_one_selected_for_notifications() -> None:
    assert default_adapter_key({"cache": "redis", "messaging": "slack", "notifications.ops": "teams"}) == (
        "notifications.ops"
    )
    assert default_adapter_key({"messaging": "slack"}) == "messaging"
    assert default_adapter_key({"cache": "redis"}) is None
