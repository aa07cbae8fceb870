"""What to say of a setting that there is not: what replaced it, or what it was meant to be."""

from oneiric.runtime.settings._model import OBSOLETE, OneiricSettings
from oneiric.runtime.settings._origin import Path
from oneiric.runtime.settings._schema import nearest

__all__ = ["unknown_setting"]


def unknown_setting(path: Path) -> tuple[str, str | None]:
    """Return problem and hint for a path of the settings that no field stands for."""
    replaced_by = OBSOLETE.get(path)
    if replaced_by is not None:
        return f"is no setting any more: {replaced_by}", "remove it"
    return "is not a known setting", nearest(OneiricSettings, path)
