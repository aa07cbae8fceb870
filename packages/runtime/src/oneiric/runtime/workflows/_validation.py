"""Whether a workflow is sound: every fault that can be known before it runs, as a sentence each."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from oneiric.core.errors import CycleError, WorkflowError
from oneiric.runtime.workflows._condition import read_conditions
from oneiric.runtime.workflows._specified import NodeSpec
from oneiric.runtime.workflows._template import Reference, compiled

__all__ = ["ancestors", "validate"]

#: Brackets, colons and slashes tell fan-outs, compensations and sub-workflows from the nodes they belong to.
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def validate(
    key: str,
    nodes: Sequence[NodeSpec],
    output: Any = None,
    *,
    known: Mapping[str, Collection[str] | None] | None = None,
) -> None:
    """Refuse a workflow that is not sound.

    Args:
        key: The workflow.
        nodes: Its nodes.
        output: The template of its output, or None.
        known: The ``task`` and ``workflow`` keys there are; None or absent for any.

    Raises:
        WorkflowError: It is not; ``problems`` has a sentence for each fault.
        CycleError: Its nodes wait for one another.
    """
    by_id = {node.id: node for node in nodes}
    problems = [*_of_ids(key, nodes), *_of_links(key, nodes, by_id), *_of_keys(key, nodes, known or {})]
    _raise(problems)
    if circle := _circle(by_id):
        raise CycleError(key, circle)
    above = ancestors(nodes)
    for node in nodes:
        problems += _of_templates(key, node, by_id, above[node.id])
    if output is not None:
        problems += _unsound(f"output of workflow {key!r}", output, by_id, set(by_id), ("nodes", "context", "run"))
    _raise(problems)


def _raise(problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WorkflowError(problems[0] + more, None, tuple(problems))


def _of_ids(key: str, nodes: Sequence[NodeSpec]) -> Iterator[str]:
    if not nodes:
        yield f"workflow {key!r} has no nodes"
    seen: set[str] = set()
    for node in nodes:
        if not _ID.match(node.id):
            yield f"node id {node.id!r} of workflow {key!r} is not made of letters, digits and _ . - (128 at most)"
        if node.id in seen:
            yield f"workflow {key!r} has two nodes {node.id!r}"
        seen.add(node.id)


def _of_links(key: str, nodes: Sequence[NodeSpec], by_id: Mapping[str, NodeSpec]) -> Iterator[str]:
    for node in nodes:
        where = f"node {node.id!r} of workflow {key!r}"
        for other in node.depends_on:
            if other == node.id:
                yield f"{where} depends on itself"
            elif other not in by_id:
                yield f"{where} depends on {other!r}, which does not exist"


def _of_keys(key: str, nodes: Sequence[NodeSpec], known: Mapping[str, Collection[str] | None]) -> Iterator[str]:
    for node in nodes:
        where = f"node {node.id!r} of workflow {key!r}"
        if bool(node.task) is bool(node.workflow):
            yield f"{where} states {'both a task and a workflow' if node.task else 'neither a task nor a workflow'}"
        if node.workflow == key:
            yield f"{where} runs the workflow it is in"
        if node.compensate is not None and not node.compensate.task:
            yield f"compensate of {where} states no task"
        named = [(node.kind, node.task or node.workflow)]
        if node.compensate is not None:
            named.append(("task", node.compensate.task))
        for kind, name in named:
            there = known.get(kind)
            if name and there is not None and name not in there:
                yield f"{where} runs the {kind} {name!r}, which does not exist"


def _circle(by_id: Mapping[str, NodeSpec]) -> tuple[str, ...]:
    """Return nodes that wait for one another, the first one again at the end; empty where there are none."""
    done: set[str] = set()
    for start in by_id:
        path: dict[str, Iterator[str]] = {start: iter(by_id[start].depends_on)}
        while path and start not in done:
            last = next(reversed(path))
            following = next(path[last], None)
            if following is None:
                done.add(last)
                del path[last]
            elif following in path:
                names = list(path)
                # The path goes from a node to what it waits for; the circle is told in the order things would run.
                return (*reversed(names[names.index(following) :]), names[-1])
            elif following not in done:
                path[following] = iter(by_id[following].depends_on)
    return ()


def ancestors(nodes: Sequence[NodeSpec]) -> dict[str, frozenset[str]]:
    """Return for each node all it waits for, also by way of others; there must be no circle."""
    by_id = {node.id: node for node in nodes}
    found: dict[str, frozenset[str]] = {}
    for start in by_id:
        waiting = [start]
        while waiting:
            node = by_id[waiting[-1]]
            missing = [each for each in node.depends_on if each not in found]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            found[node.id] = frozenset(node.depends_on).union(*(found[each] for each in node.depends_on))
    return found


def _of_templates(key: str, node: NodeSpec, by_id: Mapping[str, NodeSpec], above: frozenset[str]) -> Iterator[str]:
    where = f"node {node.id!r} of workflow {key!r}"
    always = ("nodes", "context", "run")
    inside = (*always, "item", "index") if node.for_each is not None else always
    yield from _unsound(f"payload of {where}", node.payload, by_id, above, inside)
    yield from _unsound(f"for_each of {where}", node.for_each, by_id, above, always)
    if (isinstance(node.for_each, str) and "${" not in node.for_each) or isinstance(
        node.for_each, Mapping | int | float
    ):
        yield f"for_each of {where} is no list and no template of one"
    if node.compensate is not None and node.compensate.has_payload:
        yield from _unsound(f"compensate of {where}", node.compensate.payload, by_id, above | {node.id}, inside)
    try:
        conditions = read_conditions(node.when, by_id)
    except WorkflowError as error:
        yield f"`when` of {where}: {error.message}"
        return
    yield from _out_of_reach(f"`when` of {where}", [each.reference for each in conditions], above, always)


def _unsound(
    where: str, value: Any, by_id: Collection[str], above: Collection[str], roots: Collection[str]
) -> Iterator[str]:
    references: list[Reference] = []
    try:
        compiled(value, by_id, references)
    except WorkflowError as error:
        yield f"{where}: {error.message}"
        return
    yield from _out_of_reach(where, references, above, roots)


def _out_of_reach(
    where: str, references: Sequence[Reference], above: Collection[str], roots: Collection[str]
) -> Iterator[str]:
    for reference in references:
        if reference.root not in roots:
            yield f"{where}: ${{{reference.text}}} has a meaning only in a node with for_each"
        elif reference.root == "nodes" and reference.node not in above:
            yield f"{where}: ${{{reference.text}}} is read, but {reference.node!r} is not among what it depends on"
