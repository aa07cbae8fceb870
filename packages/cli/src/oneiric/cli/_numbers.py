"""Numbers as people type them."""

from oneiric.core.errors import ConfigurationError

__all__ = ["number_from"]


def number_from(option: str, text: str, *, least: int = 1, most: int = 1_000_000) -> int:
    """Return a whole number.

    Args:
        option: Who asks, for the error.
        text: As it was typed.
        least: The smallest that is taken.
        most: The largest that is taken.

    Raises:
        ConfigurationError: It is none, or too small or large.
    """
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise ConfigurationError(
        f"{option} must be a number from {least} to {most}, not {text[:40]!r}", f"{option} {least}"
    )
