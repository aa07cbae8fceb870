"""What all sections have in common: strictness, fields in seconds, and rules that speak for themselves."""

from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = ["RULE", "SECTION_OF", "Section", "broken", "seconds", "section_path"]

#: Kind of a problem whose sentence is ours: it states the rule and never holds a value.
RULE: Final = "setting_rule"

#: Built-in domain → the section that configures it.
SECTION_OF: Final = {
    "adapter": "adapters",
    "service": "services",
    "task": "tasks",
    "event": "events",
    "workflow": "workflows",
    "action": "actions",
}


def section_path(domain: str) -> tuple[str, ...]:
    """Return where a domain is configured: ``("adapters",)``, or ``("domains", "mine")`` for a custom one."""
    section = SECTION_OF.get(domain)
    return ("domains", domain) if section is None else (section,)


class Section(BaseModel):
    """A section or a table within one: refuses unknown keys, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def seconds(
    default: float | None, what: str, *, at_least: float | None = None, published_name: str | None = None
) -> Any:
    """Return a field for a finite duration, greater than zero unless *at_least* says otherwise.

    Args:
        default: In seconds; None where the duration may be absent.
        what: Its description, a sentence; the unit is added.
        at_least: The smallest duration, itself allowed.
        published_name: A name ending in ``_timeout`` that is accepted beside the one ending in ``_seconds``.
    """
    alias = None
    if published_name is not None:
        alias = AliasChoices(published_name.replace("_timeout", "_seconds"), published_name)
    return Field(
        default=default,
        gt=0 if at_least is None else None,
        ge=at_least,
        allow_inf_nan=False,
        validation_alias=alias,
        description=f"{what} In seconds.",
    )


def broken(rule: str) -> PydanticCustomError:
    """Return the error of a rule between several fields, to be raised by a model's validator.

    Args:
        rule: What must hold, as a sentence that begins with a verb; it must not repeat a value.
    """
    return PydanticCustomError(RULE, "{rule}", {"rule": rule})
