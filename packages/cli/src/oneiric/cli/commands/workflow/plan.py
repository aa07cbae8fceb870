"""``oneiric workflow plan``: what a run of a workflow runs, drawn or as data. Runs nothing."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._parameters import Workflow, WorkflowOption
from oneiric.cli._runs import workflow_of
from oneiric.cli._view import view_of

__all__ = ["command"]


def command(
    context: typer.Context,
    key: Workflow = None,
    workflow: WorkflowOption = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Draw it as a Mermaid flowchart.")] = False,  # noqa: FBT002
) -> Result:
    """Show what a run of a workflow runs; runs nothing."""
    view = view_of(context, needs_settings=True, with_stored=True)
    from oneiric.core.lifecycle import LifecycleManager  # noqa: PLC0415 - as below
    from oneiric.domains import WorkflowBridge  # noqa: PLC0415 - loads the runtime

    bridge = WorkflowBridge(resolver=view.resolver, lifecycle=LifecycleManager(view.resolver))
    plan = bridge.plan(workflow_of(key, workflow))
    provider = view.resolver.resolve("workflow", plan.workflow).provider
    drawn = plan.mermaid() if mermaid else plan.text()
    document: dict[str, Any] = {"provider": provider, **plan.as_dict()}
    return Result(document=document, text=lambda style: _text(drawn, style, bare=mermaid), notes=view.notes)


def _text(drawn: str, style: Style, *, bare: bool) -> Iterator[str]:
    first, *rest = drawn.splitlines()
    yield first if bare else style("bold", printable(first))
    yield from (line if bare else f"  {printable(line)}" for line in rest)
