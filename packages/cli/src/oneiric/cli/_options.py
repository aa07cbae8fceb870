"""Root options: what may be said to every command, before its name or after it."""

from dataclasses import dataclass, field

__all__ = ["RootOptions"]


@dataclass(slots=True)
class RootOptions:
    """What was said on the command line beside the command's own options.

    Attributes:
        config: Settings file or directory; None is what ``ONEIRIC_CONFIG`` names, else none.
        profile: Name of the profile; None is the configured one.
        imports: Modules to import before anything is resolved.
        demo: Also load the demo's catalogue.
        json: Print one JSON document instead of text.
        quiet: Print results only: no notes, no progress.
        verbose: Log what happens.
        debug: Log everything, and show the traceback of an error.
    """

    config: str | None = None
    profile: str | None = None
    imports: list[str] = field(default_factory=list)
    demo: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
