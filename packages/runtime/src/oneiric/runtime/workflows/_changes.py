"""Changed definitions: the first thing that is different, as a sentence; and what a node's absence reaches."""

from collections.abc import Iterable, Mapping
from typing import Any

from oneiric.runtime.workflows._spec import WorkflowSpec
from oneiric.runtime.workflows._validation import ancestors

__all__ = ["below", "first_difference"]


def first_difference(before: WorkflowSpec, now: WorkflowSpec) -> str:
    """Return the first difference of two definitions as a clause; empty where there is none."""
    old, new = before.definition, now.definition
    for node in (*old["nodes"], *new["nodes"]):
        if node not in new["nodes"]:
            return f"node {node!r} is gone"
        if node not in old["nodes"]:
            return f"node {node!r} is new"
        if clause := _of_fields(old["nodes"][node], new["nodes"][node]):
            return f"node {node!r} {clause}"
    if clause := _of_fields({"output": old.get("output")}, {"output": new.get("output")}):
        return f"the workflow {clause}"
    return "" if old["workflow"] == new["workflow"] else f"it is workflow {new['workflow']!r} now"


def _of_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    for field in dict.fromkeys((*old, *new)):
        if old.get(field) != new.get(field):
            return f"has {field} {_shown(new.get(field))} instead of {_shown(old.get(field))}"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def below(spec: WorkflowSpec, nodes: Iterable[str]) -> set[str]:
    """Return nodes and all that depend on them."""
    wanted = set(nodes)
    above = ancestors(spec.nodes)
    return wanted | {node for node, reached in above.items() if reached & wanted}
