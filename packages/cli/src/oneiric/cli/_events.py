"""Events as commands are told of them: a topic, a payload, and the store of what nobody took."""

from pathlib import Path
from typing import Any

from oneiric.cli._plain import json_from
from oneiric.cli._running import Place
from oneiric.core.errors import ConfigurationError

__all__ = ["dead_letters_path", "payload_of", "topic_of"]


def topic_of(positional: str | None, named: str | None) -> str:
    """Return the topic that was said, in either place.

    Raises:
        ConfigurationError: None was, or two.
    """
    if positional is not None and named not in {None, positional}:
        raise ConfigurationError(f"the topic is {positional!r} or {named!r}, not both", "oneiric event emit TOPIC")
    topic = named if positional is None else positional
    if not topic:
        raise ConfigurationError("no topic was said", "oneiric event emit orders.created --payload '{}'")
    return topic


def payload_of(text: str | None) -> Any:
    """Return the payload as it was typed; None where none was.

    Raises:
        ConfigurationError: It is no JSON.
    """
    return None if text is None else json_from("--payload", text)


def dead_letters_path(place: Place) -> Path:
    """Return where a system with these settings keeps its dead letters."""
    from oneiric.runtime.dead_letters import DEAD_LETTERS_FILE  # noqa: PLC0415 - loads the runtime

    return place.state_dir / DEAD_LETTERS_FILE
