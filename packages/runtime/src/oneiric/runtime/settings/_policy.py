"""From settings to the core's policy: selections that know where they were made."""

from oneiric.core.resolution import Policy, Selection, StackOrder
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._origin import dotted
from oneiric.runtime.settings._section import SECTION_OF, section_path
from oneiric.runtime.settings._sections import DomainSettings

__all__ = ["policy_from", "selections_of"]


def policy_from(loaded: LoadedSettings) -> Policy:
    """Return the operator's decisions in the settings: selections, tenants and the stack order.

    Raises:
        ConfigurationError: ``ONEIRIC_STACK_ORDER`` is malformed; the message names the entry.
    """
    settings = loaded.settings
    selections = {
        domain: {
            key: Selection(provider, str(loaded.origin_of((*section_path(domain), "selections", key))))
            for key, provider in settings.section(domain).selections.items()
        }
        for domain in (*SECTION_OF, *settings.domains)
    }
    tenants = {
        tenant: {
            domain: {
                key: Selection(provider, str(loaded.origin_of(("tenants", tenant, domain, key))))
                for key, provider in chosen.items()
            }
            for domain, chosen in domains.items()
        }
        for tenant, domains in settings.tenants.items()
    }
    return Policy(
        selections={domain: chosen for domain, chosen in selections.items() if chosen},
        tenants=tenants,
        stack_order=StackOrder.parse(loaded.stack_order),
    )


def selections_of(domain: str, section: DomainSettings) -> dict[str, Selection]:
    """Return the selections of a section made in code, which has no file to name."""
    where = dotted((*section_path(domain), "selections"))
    return {key: Selection(provider, f"settings {where}.{key}") for key, provider in section.selections.items()}
