"""The error tree: one tree, drawn as it is; every error reads as a sentence and survives pickling and copying."""

import copy
import inspect
import pickle

import pytest

from oneiric.core import errors
from oneiric.core.errors import (
    ActivationError,
    CandidateNotFoundError,
    CapabilityNotFoundError,
    ConfigurationError,
    CycleError,
    DeadlineError,
    DuplicateCandidateError,
    FetchStatusError,
    InvalidCandidateError,
    MissingExtraError,
    NodeError,
    OneiricError,
    PausedError,
    SelectionNotFoundError,
    StoreError,
    SwapError,
)

CLASSES = [getattr(errors, name) for name in errors.__all__]

#: One of each class whose arguments are its own; the others are made of a message and a hint.
MADE: list[OneiricError] = [
    ActivationError("adapter", "cache", "redis", "init", "refused", hint="start it"),
    CandidateNotFoundError("adapter", "cache", "2 are set aside"),
    CapabilityNotFoundError("adapter", "cache", ("ttl", "kv"), False, ("kv",)),
    ConfigurationError("must be a number", "5", "oneiric.toml", 12, "adapters.options.size"),
    CycleError("nightly", ("a", "b", "a")),
    DeadlineError("init", 30.0),
    DuplicateCandidateError("adapter", "cache", "redis", "acme"),
    FetchStatusError("the server answers 503", "later", 503, 2.5),
    InvalidCandidateError("priority", "must be an integer", "row 3"),
    MissingExtraError("redis", "oneiric-adapters-cache[redis]", "redis"),
    NodeError("nightly", "r1", "load", "no such file", 3, "look at it"),
    PausedError("adapter", "cache", "draining", "new disks", "oneiric drain cache --clear"),
    SelectionNotFoundError("adapter", "cache", "memcached", None, ("memory", "redis"), "oneiric.toml:3"),
    StoreError("the store is locked", "wait", "locked"),
    SwapError("adapter", "cache", "redis", "health", "unhealthy", True, "acme"),
]
MADE += [each("what failed", "this") for each in CLASSES if each not in {type(made) for made in MADE}]


def test_the_public_names_are_the_error_classes_and_nothing_else() -> None:
    public = {name for name in vars(errors) if not name.startswith("_")}
    assert sorted(public) == sorted(errors.__all__) == errors.__all__
    assert all(inspect.isclass(each) and issubclass(each, OneiricError) for each in CLASSES)


def test_every_class_is_drawn_in_the_tree_of_the_docstring() -> None:
    drawn = set((errors.__doc__ or "").replace("(", " ").replace(")", " ").split())
    assert set(errors.__all__) - drawn == set()


def test_each_branch_hangs_where_it_is_drawn() -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if "├─" in line or "└─" in line]
    assert len(lines) > 5
    for line in lines:
        branch, *below = line.replace("├─", "").replace("└─", "").replace("(", " ").replace(")", " ").split()
        for name in below:
            assert issubclass(getattr(errors, name), getattr(errors, branch)), name


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying(error: OneiricError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own bytes
        assert type(again) is type(error)
        assert (again.args, vars(again), str(again)) == (error.args, vars(error), str(error))
        assert (again.message, again.hint, again.exit_code, again.http_status) == (
            error.message,
            error.hint,
            error.exit_code,
            error.http_status,
        )


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_reads_as_one_line_of_what_and_what_to_try(error: OneiricError) -> None:
    assert error.message
    assert "\n" not in str(error)
    assert str(error) == (error.message if error.hint is None else f"{error.message}. Try: {error.hint}")


def test_made_holds_one_of_every_class() -> None:
    assert {type(error) for error in MADE} == set(CLASSES)


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_exit_codes_and_statuses_are_those_that_are_promised(error: OneiricError) -> None:
    assert error.exit_code in {1, 2, 3, 4, 5, 6}
    assert 400 <= error.http_status < 600


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("OneiricError", 1),
        ("ConfigurationError", 2),
        ("SecretNotFoundError", 2),
        ("UnhealthyError", 3),
        ("CandidateNotFoundError", 4),
        ("SelectionNotFoundError", 4),
        ("CapabilityNotFoundError", 4),
        ("InactiveError", 6),
        ("SwapError", 1),
        ("SignatureError", 5),
        ("DigestError", 5),
        ("RollbackError", 5),
        ("ExpiredError", 5),
        ("SchemaError", 1),
    ],
)
def test_what_a_command_exits_with(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            SelectionNotFoundError("adapter", "cache", "memcached", None, ("redis", "memory")),
            "adapter:cache has no provider 'memcached' (have: memory, redis). Try: oneiric list --domain adapter",
        ),
        (
            MissingExtraError("redis", "a[redis]", "x"),
            "provider 'redis' needs an extra that is not installed (no module named 'x'). Try: pip install 'a[redis]'",
        ),
        (
            SwapError("adapter", "cache", "redis", "health", "unhealthy", True),
            "adapter:cache did not swap to provider 'redis': health failed: unhealthy; the old one serves",
        ),
        (
            ConfigurationError("must be a number", None, "oneiric.toml", 12, "adapters.options.size"),
            "oneiric.toml:12: adapters.options.size: must be a number",
        ),
        (PausedError("service", "pay"), "service:pay is paused and takes no new work"),
        (CycleError("nightly", ("a", "b", "a")), "workflow 'nightly' goes in a circle: a → b → a"),
        (
            NodeError("nightly", "r1", "load", "OSError: gone", 3),
            "node 'load' of workflow 'nightly' failed after 3 attempts in run 'r1': OSError: gone",
        ),
        (DeadlineError("init", 0.5), "init took longer than its deadline of 0.5 s"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sentence_says_what_failed_what_was_found_and_what_to_try(error: OneiricError, sentence: str) -> None:
    assert str(error) == sentence


def test_a_step_error_says_which_step_and_whether_the_old_one_serves() -> None:
    error = SwapError("adapter", "cache", "redis", "init", "refused", True, "acme")
    assert (error.step, error.rolled_back, error.tenant, error.reason) == ("init", True, "acme", "refused")
    assert "(tenant acme)" in str(error)
    assert "the old one serves" not in str(ActivationError("adapter", "cache", "redis", "init", "refused"))


def test_a_long_list_of_names_is_shortened() -> None:
    error = SelectionNotFoundError("adapter", "cache", "x", None, tuple(f"p{number:03}" for number in range(100)))
    assert "p000" in str(error)
    assert "92 more" in str(error)
    assert len(str(error)) < 250
