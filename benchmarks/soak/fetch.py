"""Soak: every way that a server can misbehave, each met by a fetcher in a process of its own.

Measured there: how far memory grew at its highest, and how long it took. Growth may be twice the byte cap and 8 MiB;
what is slow must be cut by the minimum rate or the deadline, whichever comes first; every end is an error of ours, and
an honest body of just the cap arrives. Then a server goes away and comes back under a fetcher that is asked all the
time: it may cost a tenth more requests than were asked for, and must be found again within two seconds.

The mutant ``blind`` takes eight times what it says, and waits for six times as long: it must be caught.
"""

import argparse
import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks._processes import clean_environment
from oneiric.core.errors import FetchError, ManifestError
from oneiric.remote.fetch import FetchLimits, FetchPolicy, SafeFetcher
from oneiric.remote.testing_http import MisbehavingServer

__all__ = ["Plan", "main", "soak"]

_MIB: Final = 1 << 20
_HONEST: Final = "/honest"
#: Most of what is slow only waits.
_SIDE_BY_SIDE: Final = 4
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        cap_bytes: The byte cap of each fetch.
        limits: Of the fetcher.
        paths: Which ways to misbehave; each is met once in each round.
        rounds: How often.
        flap_seconds: How long the server is gone under load; 0 for not at all.
        slack_seconds: What the machine may add to a deadline, and to finding a server that came back: it is shared, and
            a process that waits for its turn is no fault of ours.
        blind: The mutant.
    """

    cap_bytes: int = 16 * _MIB
    limits: FetchLimits = field(default_factory=lambda: FetchLimits(attempts=1))
    paths: tuple[str, ...] = MisbehavingServer.behaviours
    rounds: int = 1
    flap_seconds: float = 3.0
    slack_seconds: float = 2.0
    blind: bool = False


def _peak_bytes() -> int:
    """Return the most memory this process has had since `_forget_peak`, or ever where that is not known."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")


async def _meet(base: str, path: str, cap_bytes: int, limits: FetchLimits) -> dict[str, Any]:
    port = int(base.rpartition(":")[2])
    policy = FetchPolicy(http_hosts=("127.0.0.1",), ports=(port,), private_networks=("127.0.0.0/8",))
    # With its own limits: the first fetch pays for imports, and on a busy machine for those of the others.
    await SafeFetcher(policy).fetch(f"{base}/warm")
    gc.collect()
    _forget_peak()
    before, began = _peak_bytes(), time.monotonic()
    error: str | None = None
    try:
        await SafeFetcher(policy, limits).fetch(f"{base}{path}", max_bytes=cap_bytes)
    except (FetchError, ManifestError) as raised:
        error = type(raised).__name__
    except Exception as raised:  # noqa: BLE001 - that there is none is what is measured
        error = f"not ours: {type(raised).__name__}: {raised!s:.100}"
    seconds = time.monotonic() - began
    return {"path": path, "growth_bytes": _peak_bytes() - before, "seconds": round(seconds, 2), "error": error}


async def _in_a_process(base: str, path: str, plan: Plan) -> list[dict[str, Any]]:
    limits, cap = plan.limits, plan.cap_bytes
    if plan.blind:
        cap *= 8
        limits = replace(
            limits, total_seconds=6 * limits.total_seconds, rate_window_seconds=6 * limits.rate_window_seconds
        )
    given = json.dumps({"base": base, "path": path, "cap_bytes": cap, "limits": asdict(limits)})
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.soak", "fetch", "--meet", given),
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env=clean_environment(),
    )
    said, _ = await child.communicate()
    return [json.loads(line) for line in said.splitlines()]


async def _flap(server: MisbehavingServer, gone_seconds: float, limits: FetchLimits) -> dict[str, Any]:
    """Ask a hundred times a second, with the server failing for a while; return what that cost and when it ended."""
    policy = FetchPolicy(http_hosts=("127.0.0.1",), ports=(server.port,), private_networks=("127.0.0.0/8",))
    client, loop = SafeFetcher(policy, replace(limits, backoff_seconds=0.001)), asyncio.get_running_loop()
    asked, recovered, before = 0, None, server.connections
    server.publish("/flap", b"{}", failures=10**9)
    healed = loop.time() + gone_seconds
    is_gone = True
    while recovered is None and loop.time() < healed + 10:
        if is_gone and loop.time() >= healed:
            server.publish("/flap", b"{}")
            is_gone = False
        asked += 1
        try:
            await client.fetch(server.url("/flap"))
            recovered = loop.time() - healed
        except FetchError:
            await asyncio.sleep(0.01)
    requests = server.connections - before
    return {
        "asked": asked,
        "requests": requests,
        "recovered_seconds": None if recovered is None else round(recovered, 2),
    }


async def soak(plan: Plan) -> dict[str, Any]:
    """Meet every server, and return what was measured."""
    async with MisbehavingServer() as server:
        server.publish("/warm", b"{}")
        server.publish(_HONEST, bytes(plan.cap_bytes))
        base = server.url("")
        paths = [*plan.paths, _HONEST]
        side_by_side = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def meet(path: str) -> list[dict[str, Any]]:
            async with side_by_side:
                return await _in_a_process(base, path, plan)

        met = [each for found in await asyncio.gather(*map(meet, paths * plan.rounds)) for each in found]
        flap = await _flap(server, plan.flap_seconds, FetchLimits()) if plan.flap_seconds else None
    return {"met": met, "expected": plan.rounds * len(paths), "flap": flap}


def failures(plan: Plan, outcome: dict[str, Any]) -> list[str]:
    """Return what broke the promise; empty when the figure stands."""
    found = []
    most_bytes = 2 * plan.cap_bytes + 8 * _MIB
    most_seconds = min(plan.limits.total_seconds, plan.limits.rate_window_seconds) + plan.slack_seconds
    if len(outcome["met"]) != outcome["expected"]:
        found.append(f"{len(outcome['met'])} of {outcome['expected']} fetches ended")
    for each in outcome["met"]:
        is_fine = each["error"] is None if each["path"] in {_HONEST, "/longer"} else bool(each["error"])
        if not is_fine or str(each["error"]).startswith("not ours"):
            found.append(f"{each['path']} ended with {each['error']}")
        if each["growth_bytes"] > most_bytes:
            found.append(f"{each['path']} took {each['growth_bytes'] / _MIB:.1f} MiB of {most_bytes / _MIB:g}")
        if each["seconds"] > most_seconds and each["path"] != _HONEST:
            found.append(f"{each['path']} took {each['seconds']} s of {most_seconds:g}")
    if (flap := outcome["flap"]) is not None:
        if flap["recovered_seconds"] is None or flap["recovered_seconds"] >= plan.slack_seconds:
            found.append(f"a server that came back was found after {flap['recovered_seconds']} s")
        if flap["requests"] > 1.1 * flap["asked"]:
            found.append(f"{flap['asked']} fetches made {flap['requests']} requests")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run it and print one JSON line."""
    parser = argparse.ArgumentParser(prog="scripts/soak fetch", description=__doc__)
    parser.add_argument("--cap-mib", type=int, default=Plan().cap_bytes // _MIB)
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--quick", action="store_true", help="small caps and deadlines, and the worst servers only")
    parser.add_argument("--mutant", choices=["blind"])
    parser.add_argument("--meet", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.meet:
        given = json.loads(options.meet)
        limits = FetchLimits(**given["limits"])
        print(json.dumps(asyncio.run(_meet(given["base"], given["path"], given["cap_bytes"], limits))))
        return 0
    plan = Plan(
        cap_bytes=options.cap_mib * _MIB,
        rounds=options.rounds,
        blind=options.mutant == "blind",
    )
    if options.quick:
        plan = quick(plan)
    started = time.perf_counter()
    outcome = asyncio.run(soak(plan))
    broken = failures(plan, outcome)
    line = {
        "property": "no server costs a fetch more than twice the byte cap and 8 MiB, or more time than the limits",
        "figure": {
            "met": len(outcome["met"]),
            "most_growth_mib": round(max((each["growth_bytes"] for each in outcome["met"]), default=0) / _MIB, 1),
            "allowed_growth_mib": 2 * plan.cap_bytes // _MIB + 8,
            "most_seconds": max((each["seconds"] for each in outcome["met"]), default=0),
            "flap": outcome["flap"],
        },
        "seed": None,
        "ok": not broken,
        "failures": broken,
        "mutant": options.mutant,
        "worst": sorted(outcome["met"], key=lambda each: -each["growth_bytes"])[:3],
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return 1 if broken else 0


def quick(plan: Plan) -> Plan:
    """Return a sample of *plan* that a test can wait for: the same code, smaller figures."""
    limits = replace(plan.limits, total_seconds=1.0, rate_window_seconds=0.4, connect_seconds=1.0)
    slow = ("/stall", "/drip")
    fast = tuple(path for path in plan.paths if path in {"/endless", "/chunkforever", "/gzipbomb", "/manyheaders"})
    return replace(plan, cap_bytes=4 * _MIB, limits=limits, paths=(*fast, *slow), flap_seconds=0.2, slack_seconds=10.0)
