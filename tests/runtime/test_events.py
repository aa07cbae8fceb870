"""Events: who is called, in which order, and what becomes of failures."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError, DispatchError
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.events import (
    DispatchReport,
    EventDispatcher,
    EventEnvelope,
    EventFilter,
    EventHandler,
    RetryPolicy,
)
from oneiric.runtime.events._topics import TopicIndex

type Call = Callable[[EventEnvelope], Awaitable[Any]]


class Ledger:
    """Handlers that write down what they are given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def call(self, name: str, answer: Any = None) -> Call:
        async def handle(envelope: EventEnvelope) -> Any:
            self.seen.append(name)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return handle

    def handler(self, name: str, answer: Any = None, **fields: Any) -> EventHandler:
        return EventHandler(name=name, call=self.call(name, answer), **fields)


def dispatcher(*handlers: EventHandler, **options: Any) -> EventDispatcher:
    built = EventDispatcher(**options)
    built.replace(handlers)
    return built


def event(topic: str = "orders.created", payload: Any = None, **fields: Any) -> EventEnvelope:
    return EventEnvelope(topic, payload, **fields)


@pytest.mark.parametrize("options", [{}, {"results": True}, {"fanout": "concurrent"}])
async def test_handlers_take_their_turns_by_priority_and_then_as_they_subscribed(options: Any) -> None:
    ledger = Ledger()
    events = dispatcher(
        ledger.handler("late", priority=-1),
        ledger.handler("first"),
        ledger.handler("second"),
        ledger.handler("top", priority=9),
    )
    report = await events.dispatch(event(), **options)
    assert ledger.seen == ["top", "first", "second", "late"]
    assert (report.matched, report.success, report.failures) == (4, True, ())


@pytest.mark.parametrize("results", [False, True])
@pytest.mark.parametrize("fanout", ["ordered", "concurrent"])
@pytest.mark.parametrize("fault", [ValueError("broken"), SystemExit(3), asyncio.CancelledError()])
async def test_a_handler_that_raises_never_disturbs_the_others(
    fault: BaseException, fanout: Any, results: bool
) -> None:
    ledger, buried = Ledger(), []
    events = dispatcher(
        ledger.handler("a"),
        ledger.handler("bad", fault),
        ledger.handler("b"),
        dead_letter=lambda *letter: buried.append(letter),
    )
    sent = event()
    report = await events.dispatch(sent, fanout=fanout, results=results)
    assert ledger.seen == ["a", "bad", "b"]
    assert [(each.handler, each.success, type(each.error)) for each in report.failures] == [("bad", False, type(fault))]
    assert [(letter[0].id, *letter[1:3], letter[4]) for letter in buried] == [(sent.id, "bad", "failed", 1)]


async def test_results_tell_what_each_handler_returned_and_how_long_it_took() -> None:
    ledger = Ledger()
    events = dispatcher(ledger.handler("a", 1), ledger.handler("bad", OSError("gone")), ledger.handler("b", 2))
    report = await events.dispatch(event(), results=True)
    assert [(each.handler, each.value, each.success) for each in report.results] == [
        ("a", 1, True),
        ("bad", None, False),
        ("b", 2, True),
    ]
    assert 0 < sum(each.duration_seconds for each in report.results) == pytest.approx(report.duration_seconds)
    plain = report.as_dict()
    assert (plain["topic"], plain["matched_handlers"], plain["failures"]) == ("orders.created", 3, 1)
    assert plain["handlers"][1]["error"] == "OSError: gone"


async def test_without_asking_for_results_only_failures_are_spelt_out() -> None:
    ledger = Ledger()
    report = await dispatcher(ledger.handler("a", 1)).dispatch(event())
    assert (report.results, report.matched) == ((), 1)


async def test_concurrent_handlers_run_at_the_same_time_and_in_contexts_of_their_own() -> None:
    both = asyncio.Barrier(2)

    async def meet(envelope: EventEnvelope) -> str:
        async with asyncio.timeout(60):
            await both.wait()
        return "met"

    events = dispatcher(EventHandler(name="a", call=meet), EventHandler(name="b", call=meet), fanout="concurrent")
    report = await events.dispatch(event(), results=True)
    assert [each.value for each in report.results] == ["met", "met"]


@pytest.mark.parametrize("fanout", ["ordered", "concurrent"])
async def test_cancelling_a_dispatch_cancels_its_handlers_and_waits_for_them(fanout: Any) -> None:
    begun, ended = asyncio.Event(), []

    async def wait(envelope: EventEnvelope) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(dispatcher(EventHandler(name="a", call=wait)).dispatch(event(), fanout=fanout))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


@pytest.mark.parametrize("concurrent", [False, True])
async def test_an_awaitable_of_any_kind_and_a_call_that_raises_at_once_are_heeded(concurrent: bool) -> None:
    def future(envelope: EventEnvelope) -> Awaitable[Any]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(7)
        return done

    def raises(envelope: EventEnvelope) -> Awaitable[Any]:
        raise ValueError("at once")

    events = dispatcher(EventHandler(name="f", call=future), EventHandler(name="r", call=raises))
    report = await events.dispatch(event(), results=True, fanout="concurrent" if concurrent else "ordered")
    assert [(each.value, each.success) for each in report.results] == [(7, True), (None, False)]


def test_no_more_calls_than_allowed_run_at_once_and_all_run() -> None:
    running, most, done = 0, 0, 0

    async def work(envelope: EventEnvelope) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running, done = running - 1, done + 1

    async def scenario() -> None:
        events = dispatcher(EventHandler(name="w", call=work, max_concurrency=3))
        await asyncio.gather(*(events.dispatch(event()) for _ in range(10)))
        assert asyncio.get_running_loop().time() == pytest.approx(4, abs=0.1)

    run_driven(scenario(), DrivenClock())
    assert (most, done) == (3, 10)


def test_a_failed_call_is_tried_again_as_the_policy_says() -> None:
    calls: list[float] = []

    async def flaky(envelope: EventEnvelope) -> str:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) < 3:
            raise OSError("not yet")
        return "done"

    async def scenario() -> None:
        policy = RetryPolicy(attempts=3, base_delay_seconds=10, max_delay_seconds=15)
        events = dispatcher(EventHandler(name="f", call=flaky, retry=policy))
        report = await events.dispatch(event(), results=True)
        assert report.results[0].value == "done"

    run_driven(scenario(), DrivenClock())
    first, second = calls[1] - calls[0], calls[2] - calls[1]
    assert 0 <= first <= 10
    assert 0 <= second <= 15


async def test_attempts_are_counted_and_the_last_error_is_told() -> None:
    errors = iter([ValueError("one"), ValueError("two")])

    async def bad(envelope: EventEnvelope) -> None:
        raise next(errors)

    policy = RetryPolicy(attempts=2, base_delay_seconds=0)
    report = await dispatcher(EventHandler(name="b", call=bad, retry=policy)).dispatch(event())
    assert (report.failures[0].attempts, str(report.failures[0].error)) == (2, "two")


async def test_a_handler_that_takes_no_new_work_is_left_out_and_its_event_is_kept() -> None:
    ledger, buried = Ledger(), []
    events = dispatcher(
        ledger.handler("paused", refuses=lambda: "event:paused is paused"),
        ledger.handler("b"),
        dead_letter=lambda *letter: buried.append(letter),
    )
    report = await events.dispatch(event())
    assert (ledger.seen, report.failures[0].attempts) == (["b"], 0)
    assert [letter[1:3] for letter in buried] == [("paused", "refused")]


@pytest.mark.parametrize("results", [False, True])
async def test_an_exclusive_handler_takes_the_event_alone(results: bool) -> None:
    ledger = Ledger()
    only_eu = (EventFilter(path="payload.region", equals="eu"),)
    events = dispatcher(
        ledger.handler("all"),
        ledger.handler("eu", fanout="exclusive", priority=1, filters=only_eu),
        ledger.handler("other", fanout="exclusive"),
    )
    await events.dispatch(event(payload={"region": "eu"}), results=results)
    await events.dispatch(event(payload={"region": "us"}), results=results)
    assert ledger.seen == ["eu", "other"]


@pytest.mark.parametrize(
    ("stated", "payload", "holds"),
    [
        ({"path": "payload.a.b", "equals": 1}, {"a": {"b": 1}}, True),
        ({"path": "a.b", "equals": 1}, {"a": {"b": 2}}, False),
        ({"field": "a", "value": True}, {"a": 1}, False),
        ({"path": "a", "any_of": [1, 2]}, {"a": 2}, True),
        ({"path": "a", "in": ["x"]}, {}, False),
        ({"path": "a", "one_of": []}, {"a": 1}, False),
        ({"path": "a", "exists": True}, {"a": None}, True),
        ({"path": "a", "exists": False}, {"a": None}, False),
        ({"path": "a", "exists": False}, None, True),
        ({"path": "items.1.id", "equals": 7}, {"items": [{}, {"id": 7}]}, True),
        ({"path": "items.9", "exists": True}, {"items": []}, False),
        ({"path": "topic", "equals": "orders.created"}, None, True),
        ({"path": "headers.tenant", "equals": "acme"}, None, True),
        ({"path": "payload", "equals": 5}, 5, True),
        ({"path": "a", "equals": None}, {}, False),
        ({"path": "a", "equals": 1, "exists": True}, {"a": 1}, True),
    ],
)
def test_a_filter_looks_where_it_says(stated: dict[str, Any], payload: Any, holds: bool) -> None:
    one = EventFilter.from_mapping(stated)
    sent = event(payload=payload, headers={"tenant": "acme"})
    assert one.holds(sent) is holds
    assert (one.why_not(sent) is None) is holds


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"path": ""},
        {"path": "a"},
        {"path": "a", "equal": 1},
        {"path": "a", "any_of": "xy"},
        {"path": "a", "exists": 1},
        {"path": "a", "field": "b", "equals": 1},
    ],
)
def test_a_malformed_filter_is_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(DispatchError):
        EventFilter.from_mapping(stated)


SEGMENT = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(SEGMENT, min_size=1, max_size=5).map(".".join)
PATTERN = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=5).map(".".join)


def matches(pattern: list[str], topic: list[str]) -> bool:
    """Match the slow and obvious way."""
    if not pattern:
        return not topic
    if pattern[0] == "**":
        return any(matches(pattern[1:], topic[place:]) for place in range(len(topic) + 1))
    return bool(topic) and pattern[0] in {"*", topic[0]} and matches(pattern[1:], topic[1:])


@given(st.lists(PATTERN, max_size=6), TOPIC)
def test_the_index_finds_what_matching_each_pattern_would(patterns: list[str], topic: str) -> None:
    index = TopicIndex((pattern, place) for place, pattern in enumerate(patterns))
    expected = {place for place, pattern in enumerate(patterns) if matches(pattern.split("."), topic.split("."))}
    assert index.match(topic) == expected


def test_a_hostile_pattern_costs_no_more_than_its_length() -> None:
    index = TopicIndex([(".".join(["**", "a"] * 40), 1)])
    assert index.match(".".join(["a"] * 100 + ["b"])) == set()


@pytest.mark.parametrize("topic", ["", ".", "a..b", "a.*", "a b", "a\n", "x" * 256, "ä"])
async def test_a_malformed_topic_is_refused(topic: str) -> None:
    with pytest.raises(DispatchError):
        await dispatcher().dispatch(event(topic))


@pytest.mark.parametrize("fields", [{"topics": ("a*",)}, {"fanout": "all"}, {"max_concurrency": 0}])
def test_a_malformed_handler_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DispatchError):
        Ledger().handler("a", **fields)


async def test_an_event_nobody_wants_is_no_error() -> None:
    report = await dispatcher(Ledger().handler("a", topics=("x.*",))).dispatch(event("y.z"))
    assert (report.matched, report.success) == (0, True)


async def test_handlers_come_and_go_between_events() -> None:
    ledger = Ledger()
    events = EventDispatcher()
    leave = events.subscribe(ledger.handler("a"))
    with pytest.raises(DispatchError, match="an event handler 'a' already"):
        events.subscribe(ledger.handler("a"))
    with pytest.raises(DispatchError, match="two event handlers 'b'"):
        events.replace([ledger.handler("b"), ledger.handler("b")])
    await events.dispatch(event())
    leave()
    leave()
    await events.dispatch(event())
    assert (ledger.seen, events.handlers) == (["a"], ())


@pytest.mark.parametrize("options", [{}, {"fanout": "concurrent"}])
async def test_a_loop_of_events_is_found_and_ended(options: Any) -> None:
    deepest = 0
    refused: list[str] = []

    async def again(envelope: EventEnvelope) -> None:
        nonlocal deepest
        deepest += 1
        await events.dispatch(event("loop"))

    events = dispatcher(
        EventHandler(name="again", call=again),
        dead_letter=lambda envelope, handler, reason, error, attempts: refused.append(reason),
        **options,
    )
    report = await events.dispatch(event("loop"))
    assert report.success
    assert 16 <= deepest <= 33
    assert refused[0] == "hops"


async def test_hops_that_were_counted_elsewhere_are_counted_on() -> None:
    with pytest.raises(DispatchError, match="caused by 17 others"):
        await dispatcher().dispatch(event(hops=17))
    assert event(hops=3).hop().hops == 4


async def test_the_observer_is_told_of_every_event_with_its_results() -> None:
    told: list[DispatchReport] = []
    await dispatcher(Ledger().handler("a", 1), observe=told.append).dispatch(event())
    assert [(report.topic, report.results[0].value) for report in told] == [("orders.created", 1)]


async def test_an_explanation_says_of_each_handler_what_a_dispatch_then_does() -> None:
    ledger = Ledger()
    eu = (EventFilter(path="region", equals="eu"),)
    events = dispatcher(
        ledger.handler("other-topic", topics=("users.**",)),
        ledger.handler("us", filters=(EventFilter(path="region", equals="us"),)),
        ledger.handler("paused", refuses=lambda: "event:paused is paused", fanout="broadcast", priority=4),
        ledger.handler("matches", topics=("orders.*",), filters=eu),
    )
    sent = event(payload={"region": "eu"})
    explained = events.explain_event(sent)
    assert {each.handler: each.reason for each in explained.handlers} == {
        "paused": "paused",
        "other-topic": "topic",
        "us": "filter",
        "matches": "matched",
    }
    await events.dispatch(sent)
    assert tuple(ledger.seen) == explained.runs == ("matches",)
    assert "not  us: region is not 'us'" in str(explained)
    assert explained.as_dict()["handlers"][0]["handler"] == "paused"


async def test_an_explanation_names_who_took_the_event_exclusively() -> None:
    ledger = Ledger()
    events = dispatcher(ledger.handler("all"), ledger.handler("only", fanout="exclusive"))
    lines = {each.handler: each for each in events.explain_event(event()).handlers}
    assert (lines["all"].reason, lines["all"].detail) == ("exclusive", "only takes it exclusively")
    assert lines["only"].runs


def test_a_handler_is_built_from_what_manifests_say() -> None:
    call = Ledger().call("x")
    built = EventHandler.from_metadata(
        "orders:mail",
        call,
        {
            "event_topics": ["orders.*"],
            "event_filters": [{"path": "payload.tenant", "any_of": ["acme"]}],
            "event_priority": 5,
            "event_fanout_policy": "exclusive",
            "event_max_concurrency": 2,
            "retry_policy": {"max_attempts": 4, "initial_delay": 0.5, "max_backoff": 9, "jitter": 0.25},
        },
    )
    assert (built.topics, built.priority, built.fanout, built.max_concurrency) == (("orders.*",), 5, "exclusive", 2)
    assert built.retry == RetryPolicy(attempts=4, base_delay_seconds=0.5, max_delay_seconds=9)
    assert EventHandler.from_metadata("x", call, {"topics": "a.b"}, priority=3).priority == 3


@pytest.mark.parametrize(
    "stated",
    [{"attempts": 0}, {"attempts": True}, {"base_delay": -1}, {"tries": 3}, {"max_delay": 1, "max_backoff": 2}],
)
def test_a_malformed_retry_policy_is_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy.from_mapping(stated)


def test_delays_grow_to_the_longest_and_never_beyond() -> None:
    policy = RetryPolicy(attempts=9, base_delay_seconds=1, max_delay_seconds=10)
    assert [policy.delay_seconds(attempt, 1.0) for attempt in (1, 2, 3, 4, 5, 900)] == [1, 2, 4, 8, 10, 10]


TEXT = st.text("abcdefghij", min_size=1, max_size=8)


@given(
    st.builds(
        EventEnvelope,
        TOPIC,
        st.none() | st.dictionaries(TEXT, st.integers() | TEXT),
        st.dictionaries(TEXT.map(lambda name: f"x{name}"), TEXT),
        subject=st.none() | TEXT,
        time=st.none() | st.just("2026-01-02T03:04:05Z"),
        hops=st.integers(0, 16),
    )
)
def test_an_event_survives_cloudevents_and_back(sent: EventEnvelope) -> None:
    assert EventEnvelope.from_cloudevent(sent.to_cloudevent()) == sent


def test_a_binary_message_is_read_as_the_specification_says() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "orders.created",
        "ce-source": "/shop",
        "ce-id": "1",
        "ce-tenant": "acme",
        "content-type": "application/json; charset=utf-8",
    }
    read = EventEnvelope.from_http(headers, b'{"total": 3}')
    assert (read.topic, read.payload, read.source, read.headers) == (
        "orders.created",
        {"total": 3},
        "/shop",
        {"tenant": "acme"},
    )
    structured = EventEnvelope.from_http(
        {"content-type": "application/cloudevents+json"},
        b'{"specversion": "1.0", "type": "a.b", "source": "s", "id": "2", "data": [1]}',
    )
    assert (structured.topic, structured.payload) == ("a.b", [1])


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b"[]"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s"}, b""),
        ({"ce-specversion": "0.3", "ce-type": "a", "ce-source": "s", "ce-id": "1"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1", "content-type": "text/csv"}, b"a,b"),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1", "ce-time": "now"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1", "ce-time": "2026-01-01T00:00"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1", "ce-a_b": "x"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1", "ce-oneirichops": "-1"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "a", "ce-source": "s", "ce-id": "1"}, b"[" * 100_000),
    ],
)
def test_what_is_no_cloudevent_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(DispatchError):
        EventEnvelope.from_http(headers, body)


async def test_topics_made_of_ids_do_not_fill_the_memory() -> None:
    events = dispatcher(Ledger().handler("a", topics=("user.*",)))
    for number in range(5000):
        await events.dispatch(event(f"user.{number}"))
    assert len(events._plans) <= 4096


async def test_a_cancelled_caller_is_not_taken_for_a_failed_handler() -> None:
    ledger = Ledger()

    async def wait(envelope: EventEnvelope) -> None:
        await asyncio.Event().wait()

    events = dispatcher(EventHandler(name="w", call=wait, priority=1), ledger.handler("after"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await events.dispatch(event(), results=True)
    assert ledger.seen == []


@pytest.mark.parametrize("options", [{}, {"results": True}, {"fanout": "concurrent"}])
async def test_a_dispatch_ends_when_its_dead_letters_are_kept(options: Any) -> None:
    kept: list[str] = []

    async def keep(handler: str) -> None:
        await asyncio.sleep(0)
        kept.append(handler)

    ledger = Ledger()
    events = dispatcher(
        ledger.handler("bad", OSError("gone")),
        ledger.handler("good"),
        ledger.handler("worse", OSError("gone")),
        dead_letter=lambda envelope, handler, *why: keep(handler),
    )
    await events.dispatch(event(), **options)
    assert kept == ["bad", "worse"]


async def test_a_dead_letter_that_cannot_be_kept_is_raised_after_every_turn() -> None:
    async def full(*_: object) -> None:
        raise DispatchError("the disk is full")

    ledger = Ledger()
    events = dispatcher(ledger.handler("bad", OSError("gone")), ledger.handler("after"), dead_letter=full)
    with pytest.raises(DispatchError, match="the disk is full"):
        await events.dispatch(event())
    assert ledger.seen == ["bad", "after"]


async def test_a_loop_through_tasks_of_their_own_is_found_where_dispatches_are_traced() -> None:
    rounds = 0
    refused = asyncio.Event()
    sent: set[asyncio.Task[Any]] = set()

    async def again(envelope: EventEnvelope) -> None:
        nonlocal rounds
        rounds += 1
        task = asyncio.create_task(events.trace(event("loop")))
        sent.add(task)
        task.add_done_callback(lambda done: done.exception())

    events = dispatcher(EventHandler(name="again", call=again), dead_letter=lambda *letter: refused.set())
    await events.trace(event("loop"))
    async with asyncio.timeout(60):
        await refused.wait()
    assert rounds == 17


async def test_a_handler_that_runs_at_once_runs_in_a_task_of_its_name() -> None:
    names: list[str] = []

    async def note(envelope: EventEnvelope) -> None:
        task = asyncio.current_task()
        names.append("" if task is None else task.get_name())

    await dispatcher(
        EventHandler(name="a", call=note), EventHandler(name="b", call=note), fanout="concurrent"
    ).dispatch(event())
    assert names == ["a", "b"]


async def test_what_an_event_concerns_is_worked_out_once_for_its_topic_also_where_filters_choose() -> None:
    ledger = Ledger()
    events = dispatcher(ledger.handler("a", filters=(EventFilter(path="region", equals="eu"),)), ledger.handler("b"))
    await events.dispatch(event(payload={"region": "eu"}))
    known = events._plans["orders.created"]
    await events.dispatch(event(payload={"region": "us"}))
    assert events._plans["orders.created"] is known
    assert ledger.seen == ["a", "b", "b"]
