"""Reading a workflow as manifests, settings and candidates write it: names and types, one sentence for each fault."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from oneiric.core.errors import ConfigurationError, WorkflowError
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.workflows._specified import Compensation, NodeSpec

__all__ = ["read_nodes", "read_settings"]

_WORKFLOW: Final = frozenset(
    {"nodes", "tasks", "output", "max_parallel", "retry_policy", "queue_category", "scheduler", "description"}
)
_NODE: Final = frozenset(
    {
        "id", "key", "task", "workflow", "depends_on", "payload", "retry_policy", "timeout_seconds", "when", "for_each",
        "compensate", "description",
    }
)  # fmt: skip
_MOST_SECONDS: Final = 30 * 86_400


def read_settings(key: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Read what concerns the whole workflow.

    Raises:
        WorkflowError: A name or a value is wrong.
    """
    where = f"workflow {key!r}"
    if not isinstance(stated, Mapping):
        raise WorkflowError(f"{where} is a {type(stated).__name__}", "a mapping with `nodes`")
    _only(where, stated, _WORKFLOW)
    settings: dict[str, Any] = {}
    if "output" in stated:
        settings |= {"output": _plain(f"output of {where}", stated["output"]), "has_output": True}
    limit = stated.get("max_parallel")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise WorkflowError(f"max_parallel of {where} is {limit!r}", "a number from 1")
    settings["max_parallel"] = limit
    settings["retry"] = _retry(where, stated.get("retry_policy")) or RetryPolicy()
    settings["queue_category"] = stated.get("queue_category")
    settings["scheduler"] = dict(stated.get("scheduler") or {})
    return settings


def read_nodes(key: str, stated: Mapping[str, Any]) -> tuple[NodeSpec, ...]:
    """Read the nodes.

    Raises:
        WorkflowError: A name or a value is wrong; ``problems`` has a sentence for each node that is.
    """
    if "nodes" in stated and "tasks" in stated:
        raise WorkflowError(f"workflow {key!r} states both `nodes` and `tasks`", "`nodes` alone")
    listed = stated.get("nodes", stated.get("tasks"))
    if not isinstance(listed, list | tuple) or not listed:
        raise WorkflowError(f"workflow {key!r} has no nodes", "nodes: [{id: NAME, task: KEY}]")
    nodes: list[NodeSpec] = []
    problems: list[WorkflowError] = []
    for place, each in enumerate(listed):
        try:
            nodes.append(_node(key, place, each))
        except WorkflowError as error:
            problems.append(error)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        sentences = tuple(problem.message for problem in problems)
        raise WorkflowError(problems[0].message + more, problems[0].hint, sentences)
    return tuple(nodes)


def _node(key: str, place: int, stated: Any) -> NodeSpec:
    where = f"node {place + 1} of workflow {key!r}"
    if not isinstance(stated, Mapping):
        raise WorkflowError(f"{where} is a {type(stated).__name__}", "{id: NAME, task: KEY}")
    name = stated.get("id", stated.get("key"))
    if not isinstance(name, str):
        raise WorkflowError(f"{where} has no id", "id: NAME")
    where = f"node {name!r} of workflow {key!r}"
    _only(where, stated, _NODE)
    if "id" in stated and "key" in stated:
        raise WorkflowError(f"{where} states both `id` and `key`", "`id` alone")
    return NodeSpec(
        id=name,
        task=_name(where, stated, "task"),
        workflow=_name(where, stated, "workflow"),
        depends_on=_names(where, stated.get("depends_on")),
        payload=_plain(f"payload of {where}", stated.get("payload")),
        has_payload=stated.get("payload") is not None,
        retry=_retry(where, stated.get("retry_policy")),
        timeout_seconds=_seconds(where, stated.get("timeout_seconds")),
        when=_plain(f"`when` of {where}", stated.get("when")),
        for_each=_plain(f"for_each of {where}", stated.get("for_each")),
        compensate=_compensation(where, stated.get("compensate")),
    )


def _only(where: str, stated: Mapping[str, Any], known: Iterable[str]) -> None:
    known = sorted(known)
    for name in stated:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise WorkflowError(f"{where} has no field {name!r}", near[0] if near else ", ".join(known))


def _name(where: str, stated: Mapping[str, Any], field: str) -> str:
    found = stated.get(field, "")
    if not isinstance(found, str):
        raise WorkflowError(f"{field} of {where} is {found!r}", "the key of one")
    return found


def _names(where: str, stated: Any) -> tuple[str, ...]:
    found = [stated] if isinstance(stated, str) else stated or []
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise WorkflowError(f"depends_on of {where} is {stated!r}", "a list of node ids")
    return tuple(dict.fromkeys(found))


def _seconds(where: str, stated: Any) -> float | None:
    if stated is None:
        return None
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not 0 < stated <= _MOST_SECONDS:
        raise WorkflowError(f"timeout_seconds of {where} is {stated!r}", "seconds above 0, 30 days at most")
    return float(stated)


def _retry(where: str, stated: Any) -> RetryPolicy | None:
    if stated is None:
        return None
    if not isinstance(stated, Mapping):
        raise WorkflowError(f"retry_policy of {where} is {stated!r}", "{attempts: 3, base_delay: 1, max_delay: 30}")
    try:
        return RetryPolicy.from_mapping(stated)
    except ConfigurationError as error:
        raise WorkflowError(f"retry_policy of {where}: {error.message}", error.hint) from error


def _compensation(where: str, stated: Any) -> Compensation | None:
    if stated is None:
        return None
    if isinstance(stated, str):
        stated = {"task": stated}
    if not isinstance(stated, Mapping):
        raise WorkflowError(f"compensate of {where} is {stated!r}", "{task: KEY, payload: …}")
    _only(f"compensate of {where}", stated, ("task", "payload"))
    payload = stated.get("payload")
    return Compensation(
        task=_name(f"compensate of {where}", stated, "task"),
        payload=_plain(f"payload of compensate of {where}", payload),
        has_payload=payload is not None,
    )


def _plain(where: str, value: Any) -> Any:
    """Return a copy of what can be written as JSON and read back the same."""
    if value is None:
        return None
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{where} is no plain data: {error}", "texts, numbers, lists, maps") from error
