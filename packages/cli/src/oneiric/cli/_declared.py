"""What is declared for a run: the graphs of the active workflows and the handlers of the active event candidates."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from oneiric.cli._output import Style, compact, printable, table
from oneiric.core.errors import OneiricError, ResolutionError
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.events import EventFilter, EventHandler
from oneiric.runtime.workflows import WorkflowSpec

__all__ = ["declared_events", "declared_text", "declared_workflows"]

_EVERY: Final = frozenset(("all", "*"))


def declared_workflows(resolver: Resolver, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Return the graph of each active workflow, by key.

    Args:
        resolver: Filled by discovery.
        keys: Only these; none, ``all`` or ``*`` stand for every one.

    Returns:
        ``summary``, ``missing`` (keys that no candidate ranks first for) and ``problems`` (sentences about graphs that
        are missing or unsound).
    """
    asked = set(keys)
    wanted = resolver.keys("workflow") if not asked or asked & _EVERY else tuple(dict.fromkeys(keys))
    found: dict[str, Any] = {"summary": {}, "missing": [], "problems": []}
    for key in wanted:
        try:
            candidate = resolver.resolve("workflow", key)
        except ResolutionError:
            found["missing"].append(key)
            continue
        try:
            found["summary"][key] = _summary(key, candidate)
        except OneiricError as error:
            found["problems"].append(f"workflow:{key}: {error.message}")
    return found


def _summary(key: str, candidate: Candidate) -> dict[str, Any]:
    spec = WorkflowSpec.from_mapping(key, candidate.metadata.get("dag") or {})
    plan = spec.plan()
    return {
        "provider": candidate.provider,
        "node_count": len(plan.nodes),
        "edge_count": sum(len(node.depends_on) for node in plan.nodes),
        "entry_nodes": list(plan.entry_nodes),
        "queue_category": spec.queue_category,
        "digest": plan.digest,
        "nodes": [node.as_dict() for node in plan.nodes],
    }


def declared_events(resolver: Resolver) -> dict[str, Any]:
    """Return the handlers of the active event candidates, the first to take its turn first, and what is wrong."""
    handlers: list[EventHandler] = []
    problems: list[str] = []
    for key in resolver.keys("event"):
        try:
            candidate = resolver.resolve("event", key)
        except ResolutionError:
            continue  # `oneiric list` says why
        try:
            handlers.append(_handler(candidate))
        except OneiricError as error:
            problems.append(f"event:{key}: {error.message}")
    handlers.sort(key=lambda handler: -handler.priority)
    return {"handlers": [_described(handler) for handler in handlers], "problems": problems}


def _handler(candidate: Candidate) -> EventHandler:
    name = f"{candidate.key}:{candidate.provider}"
    return EventHandler.from_metadata(name, _never, candidate.metadata, priority=candidate.priority or 0)


async def _never(_: object) -> None:
    """Stand in for the handler's call: it is only described."""


def _described(handler: EventHandler) -> dict[str, Any]:
    return {
        "name": handler.name,
        "topics": list(handler.topics),
        "max_concurrency": handler.max_concurrency,
        "priority": handler.priority,
        "fanout_policy": handler.fanout,
        "attempts": handler.retry.attempts,
        "filters": [_condition(each) for each in handler.filters],
    }


def _condition(condition: EventFilter) -> dict[str, Any]:
    stated = condition.any_of is None and condition.exists is None
    return {
        "path": condition.path,
        "equals": condition.equals if stated else None,
        "any_of": None if condition.any_of is None else list(condition.any_of),
        "exists": condition.exists,
    }


def declared_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield workflows as lists of nodes and handlers as a table."""
    workflows, events = document.get("workflows"), document.get("events")
    if workflows is not None:
        yield from _workflow_text(workflows, style)
    if workflows is not None and events is not None:
        yield ""
    if events is not None:
        rows = [
            (
                each["name"],
                ", ".join(each["topics"]),
                each["priority"],
                each["fanout_policy"],
                each["max_concurrency"],
                each["attempts"],
                compact(each["filters"]) if each["filters"] else None,
            )
            for each in events["handlers"]
        ]
        headings = ("HANDLER", "TOPICS", "PRIORITY", "FAN-OUT", "AT ONCE", "ATTEMPTS", "FILTERS")
        yield from table(headings, rows, style) if rows else ["No event handler is active."]
    for section in (workflows, events):
        for problem in section["problems"] if section else ():
            yield f"{style('red', 'wrong:')} {printable(problem)}"


def _workflow_text(workflows: dict[str, Any], style: Style) -> Iterator[str]:
    if not workflows["summary"] and not workflows["missing"]:
        yield "No workflow is active."
    for place, (key, summary) in enumerate(workflows["summary"].items()):
        if place:
            yield ""
        count = summary["node_count"]
        yield (
            f"{style('bold', printable(f'workflow:{key}'))} {printable(summary['provider'])}: "
            f"{count} {'node' if count == 1 else 'nodes'}"
        )
        rows = [
            (node["id"], node["runs"], ", ".join(node["depends_on"]) or None, node["attempts"], node["timeout_seconds"])
            for node in summary["nodes"]
        ]
        yield from table(("NODE", "RUNS", "AFTER", "ATTEMPTS", "TIMEOUT"), rows, style, "  ")
    for key in workflows["missing"]:
        yield f"{style('red', 'missing:')} no candidate ranks first for workflow:{printable(key)}"
