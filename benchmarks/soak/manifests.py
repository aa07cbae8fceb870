"""Soak: ten thousand hostile documents; each is refused by an error of ours, and none costs more than it should.

Honest documents are changed byte by byte, cut, doubled and grafted, and hostile ones are grown: deep, wide, with huge
numbers, names that come twice, escapes, surrogates, aliases and bombs. Each goes to the parser it is meant for, and
to all the others. A hostile input may take fifty times as long as an honest one of its size takes in the median, and
no more. The mutant ``naive`` parses with the standard library: it must be caught, or the count is worth nothing.
"""

import argparse
import io
import json
import random
import statistics
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from oneiric.core.errors import OneiricError
from oneiric.remote.artifacts import ArtifactLimits
from oneiric.remote.envelope import Envelope
from oneiric.remote.manifest import candidates_of, parse_manifest, read_document
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedManifests, TrustedState, TrustRoot

__all__ = ["Outcome", "Plan", "main", "soak"]

NOW: Final = 1_795_000_000.0
#: How many times as long as an honest input of its size takes in the median.
_MOST_TIMES: Final = 50.0
#: Shorter than this no input is slow: the clock and the machine's other work would decide.
_LEAST_SECONDS: Final = 0.002

type Parser = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        inputs: So many hostile documents, each given to every parser.
        seed: Decides what they are.
        naive: The mutant: parse with the standard library.
    """

    inputs: int = 10_000
    seed: int = 1
    naive: bool = False


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    inputs: int = 0
    parsed: int = 0
    refused: int = 0
    foreign: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def failures(self, plan: Plan) -> list[str]:
        """Return what broke the promise; empty when the figure stands."""
        found = [f"an error that is not ours: {each}" for each in self.foreign[:5]]
        found += [f"slower than {_MOST_TIMES:g} times an honest input: {each}" for each in self.slow[:5]]
        if self.inputs < plan.inputs:
            found.append(f"{self.inputs} inputs of {plan.inputs}")
        if not self.refused:
            found.append("nothing was refused: the inputs are not hostile")
        return found


def _envelope(data: bytes) -> object:
    return Envelope.parse(data)


def _manifest(data: bytes) -> object:
    return candidates_of(parse_manifest(data).entries, origin="soak")


def _document(data: bytes) -> object:
    return read_document(data)


def _root(data: bytes) -> object:
    return TrustRoot.pinned(data)


def _archive(data: bytes) -> object:
    from oneiric.remote._artifact_archive import read_archive

    return read_archive(data, ArtifactLimits(unpacked_bytes=1 << 20), "archive")


def _state(data: bytes) -> object:
    with suppress(ValueError, RecursionError):
        return TrustedState.from_dict(json.loads(data))
    return None


def _naive(data: bytes) -> object:
    return yaml.safe_load(data)


PARSERS: Final[dict[str, Parser]] = {
    "envelope": _envelope,
    "manifest": _manifest,
    "document": _document,
    "root": _root,
    "archive": _archive,
    "state": _state,
}


def honest(entries: int) -> dict[str, bytes]:
    """Return an honest input for each parser."""
    repository = RepositorySimulator(now=lambda: NOW)
    rows = [
        {
            "domain": "adapter",
            "key": f"key-{number}",
            "provider": "acme",
            "factory": "acme.cache:Cache",
            "capabilities": ["kv", {"name": "ttl", "security": {"scopes": ["read"]}}],
            "retry_policy": {"attempts": 3, "jitter": 0.25},
            "metadata": {"note": "größer", "list": [1, 2.5, None, True]},
        }
        for number in range(entries)
    ]
    repository.publish(rows)
    payload = Envelope.parse(repository.manifest).payload
    trusted = TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=NOW)
    trusted.update_freshness(repository.freshness)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries):
            archive.writestr(f"acme/module_{number}.py", f"VALUE = {number}\n" * 3)
    return {
        "envelope": repository.manifest,
        "manifest": payload,
        "document": yaml.safe_dump(json.loads(payload), allow_unicode=True).encode(),
        "root": repository.roots[0],
        "archive": buffer.getvalue(),
        "state": json.dumps(trusted.state.as_dict()).encode(),
    }


class _Hostile:
    """Makes inputs, one after the other, from a seed."""

    def __init__(self, seed: int, seeds: Sequence[bytes]) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._seeds = list(seeds)
        self._makers = [self._changed, self._cut, self._grafted, self._random, self._grown]

    def one(self) -> bytes:
        return self._chance.choices(self._makers, weights=[5, 1, 2, 1, 3])[0]()

    def _changed(self) -> bytes:
        content = bytearray(self._chance.choice(self._seeds))
        for _ in range(self._chance.randint(1, 8)):
            content[self._chance.randrange(len(content))] = self._chance.choice(
                b'{}[]":,\\0 \n-_eEaux&*!|>#%@`\x00\xff\xc3'
            )
        return bytes(content)

    def _cut(self) -> bytes:
        content = self._chance.choice(self._seeds)
        start, end = sorted((self._chance.randrange(len(content)), self._chance.randrange(len(content))))
        return content[start:end] if self._chance.random() < 0.5 else content[:start] + content[end:]

    def _grafted(self) -> bytes:
        one, other = self._chance.choice(self._seeds), self._chance.choice(self._seeds)
        place, start = self._chance.randrange(len(one)), self._chance.randrange(len(other))
        return one[:place] + other[start : start + self._chance.randint(1, 200)] + one[place:]

    def _random(self) -> bytes:
        return self._chance.randbytes(self._chance.randint(0, 2000))

    def _grown(self) -> bytes:
        size = self._chance.randint(1, 4000)
        makers: list[Callable[[int], bytes]] = [
            lambda n: b"[" * n,
            lambda n: b'{"a":' * n,
            lambda n: b"[" * n + b"]" * n,
            lambda n: b"- " * n,
            lambda n: b"{" * n,
            lambda n: b"? " * n,
            lambda n: b"a: &a [1]\nb: [" + b"*a," * n + b"]",
            lambda n: b'{"payload":"' + b"A" * n + b'","payloadType":"x","signatures":[]}',
            lambda n: b'{"signatures":[' + b'{"sig":"","keyid":""},' * n + b"{}]}",
            lambda n: b'{"version":' + b"9" * n + b"}",
            lambda n: b'{"version":1e' + b"9" * n + b"}",
            lambda n: b"a: 0x" + b"f" * n,
            lambda n: b"a: " + b"1:" * n + b"1",
            lambda n: b"{" + b",".join(b'"k%d":1' % each for each in range(n)) + b',"k0":2}',
            lambda n: b'"' + b"\\u0041" * n + b'"',
            lambda n: b'{"product":"' + b"\\ud800" * n + b'"}',
            lambda n: b"{" + b" " * n + b"}",
            lambda n: b"#" * n,
            lambda n: b"%" * n,
            lambda n: b"a: '" + b"''" * n,
            lambda n: b"a: |\n" + b" x\n" * n,
            lambda n: b"!!python/object:os.system " * n,
            lambda n: b"PK\x03\x04" + b"\x00" * n + b"PK\x05\x06" + b"\xff" * 16 + b"\x00\x00",
        ]
        return self._chance.choice(makers)(size)


def soak(plan: Plan) -> Outcome:
    """Give every parser every hostile input."""
    parsers = dict.fromkeys(PARSERS, _naive) if plan.naive else PARSERS
    small, large = honest(5), honest(200)
    pace = {name: _pace(PARSERS[name], (small[name], large[name])) for name in PARSERS}
    hostile = _Hostile(plan.seed, list(small.values()))
    outcome = Outcome()
    for _ in range(plan.inputs):
        data = hostile.one()
        outcome.inputs += 1
        for name, parser in parsers.items():
            _feed(outcome, name, parser, data, pace[name])
    return outcome


def _pace(parser: Parser, inputs: Sequence[bytes]) -> float:
    """Return the seconds that a byte of an honest input takes, in the median: a small one's, which is the larger."""
    per_byte = []
    for data in inputs:
        times = []
        for _ in range(9):
            started = time.thread_time()
            parser(data)
            times.append(time.thread_time() - started)
        per_byte.append(statistics.median(times) / len(data))
    return max(per_byte)


def _feed(outcome: Outcome, name: str, parser: Parser, data: bytes, pace: float) -> None:
    allowed = max(_LEAST_SECONDS, _MOST_TIMES * pace * len(data))
    # What the machine did meanwhile is no fault of the input: time is that of the processor, and only what is slow
    # three times is slow.
    for turn in range(3):
        started = time.thread_time()
        try:
            parser(data)
        except OneiricError:
            refused = True
        except Exception as error:  # noqa: BLE001 - that there is none is what is measured
            outcome.foreign.append(f"{name}: {type(error).__name__}: {str(error)[:100]} for {data[:60]!r}")
            return
        else:
            refused = False
        seconds = time.thread_time() - started
        if seconds <= allowed:
            break
        if turn == 2:
            outcome.slow.append(f"{name}: {seconds * 1000:.1f} ms for {len(data)} bytes, {data[:60]!r}")
    outcome.slowest = max(outcome.slowest, seconds / allowed * _MOST_TIMES)
    outcome.refused += refused
    outcome.parsed += not refused


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print one JSON line."""
    parser = argparse.ArgumentParser(prog="scripts/soak manifests", description=__doc__)
    parser.add_argument("--inputs", type=int, default=Plan().inputs)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--mutant", choices=["naive"])
    options = parser.parse_args(arguments)
    plan = Plan(inputs=options.inputs, seed=options.seed, naive=options.mutant == "naive")
    started = time.perf_counter()
    outcome = soak(plan)
    failures = outcome.failures(plan)
    line: dict[str, Any] = {
        "property": "hostile documents are refused by errors of ours, none slower than 50 times an honest one",
        "figure": {"inputs": outcome.inputs, "foreign": len(outcome.foreign), "slow": len(outcome.slow)},
        "seed": plan.seed,
        "ok": not failures,
        "failures": failures,
        "mutant": options.mutant,
        "refused": outcome.refused,
        "parsed": outcome.parsed,
        "slowest_times_honest": round(outcome.slowest, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return 1 if failures else 0
