"""Notifications: what a workflow has to say, sent by whichever messenger is selected, with a receipt for each.

Owned here: which messenger a record goes to, to whom, and how it reads. Not owned: the messengers, which are adapters
reached through `MessengerSource`; and escaping for a service's markup, which only its messenger knows.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from string import Formatter
from typing import Any, Final, Protocol, Self

from oneiric.core.errors import AdapterError, ConfigurationError

__all__ = [
    "Messenger",
    "MessengerSource",
    "NotificationMessage",
    "NotificationRecord",
    "NotificationRoute",
    "NotificationRouter",
    "Receipt",
    "SendResult",
    "default_adapter_key",
]

_TEMPLATE_FIELDS: Final = ("level", "channel", "message")
#: What ``notifications`` may state in a candidate's metadata, and of which type.
_STATED: Final[Mapping[str, type]] = {
    "adapter_key": str,
    "adapter": str,
    "adapter_provider": str,
    "provider": str,
    "target": str,
    "channel": str,
    "title": str,
    "title_template": str,
    "include_context": bool,
    "extra_payload": Mapping,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationMessage:
    """What a messenger is handed.

    Attributes:
        text: The text.
        target: To whom: a channel, an address, a device; None is the messenger's own default.
        title: One line above it.
        blocks: Rich content in the service's own form.
        attachments: The same.
        extra_payload: What only this service understands.
    """

    text: str
    target: str | None = None
    title: str | None = None
    blocks: tuple[Mapping[str, Any], ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()
    extra_payload: Mapping[str, Any] = field(default_factory=dict)


class SendResult(Protocol):
    """What a messenger knows of a message it sent."""

    @property
    def message_id(self) -> str:
        """The service's own name for it."""

    @property
    def status_code(self) -> int:
        """The service's answer."""


class Messenger(Protocol):
    """Something that sends messages: an adapter of the messaging family."""

    async def send(self, message: NotificationMessage) -> SendResult:
        """Send a message.

        Raises:
            AdapterError: It was not sent, or whether it was is not known.
        """


class MessengerSource(Protocol):
    """Where messengers come from. A bridge of the adapter domain is one as it is."""

    def lease(self, key: str, *, provider: str | None = None) -> AbstractAsyncContextManager[Messenger]:
        """Hold the messenger of a key.

        Raises:
            CandidateNotFoundError: There is none, on entering.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Evidence that one message was sent to one target.

    Attributes:
        adapter_key: The key of the messenger.
        adapter_provider: The provider that was asked for by name, or None.
        target: To whom it went; None is the messenger's own default.
        message_id: The service's own name for it.
        status_code: The service's answer.
    """

    adapter_key: str
    adapter_provider: str | None
    target: str | None
    message_id: str
    status_code: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRecord:
    """Something to say: what the action ``workflow.notify`` returns.

    Attributes:
        message: The text.
        level: How grave it is.
        channel: Where it belongs.
        recipients: Whom it is for; empty is whoever follows the channel.
        context: Details.
    """

    message: str
    level: str = "info"
    channel: str = "workflow"
    recipients: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Self:
        """Read a record from the result of ``workflow.notify``; other fields of it are left aside.

        Raises:
            ConfigurationError: A field is missing or of the wrong type.
        """
        recipients = result.get("recipients") or ()
        if isinstance(recipients, str) or not all(isinstance(one, str) for one in recipients):
            raise ConfigurationError(f"a notification has recipients {recipients!r}", "a list of strings")
        context = result.get("context") or {}
        if not isinstance(context, Mapping):
            raise ConfigurationError(f"a notification has a context of type {type(context).__name__}", "a mapping")
        texts = {name: result.get(name) or default for name, default in (("level", "info"), ("channel", "workflow"))}
        texts["message"] = result.get("message") or ""
        for name, text in texts.items():
            if not isinstance(text, str) or not text:
                raise ConfigurationError(f"a notification has no {name} that is text", "a result of workflow.notify")
        return cls(**texts, recipients=tuple(recipients), context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRoute:
    """Which messenger a record goes to, to whom, and how it reads.

    Attributes:
        adapter_key: The messenger's key; None is the router's default.
        adapter_provider: A provider of that key, by name; None is what serves.
        target: To whom, above all else that is said of it.
        channel: To whom, where there is no target.
        title: The title as it stands.
        title_template: The title where there is none, with the fields ``{level}``, ``{channel}``, ``{message}``; by
            default ``[LEVEL] channel``.
        include_context: Whether the record's context is written below the text.
        extra_payload: What only this service understands.

    Raises:
        ConfigurationError: The template has other fields, or asks for more of one than its text.
    """

    adapter_key: str | None = None
    adapter_provider: str | None = None
    target: str | None = None
    channel: str | None = None
    title: str | None = None
    title_template: str | None = None
    include_context: bool = True
    extra_payload: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.title_template is not None:
            _filled(self.title_template, dict.fromkeys(_TEMPLATE_FIELDS, ""))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Read the route that a workflow candidate states under ``notifications``; without one, the default route.

        ``adapter`` is ``adapter_key`` and ``provider`` is ``adapter_provider``; an ``adapter_provider`` that stands
        alone names the key, and ``title`` is a template, as in manifests of the earlier release.

        Raises:
            ConfigurationError: A field is unknown or of the wrong type.
        """
        stated = metadata.get("notifications")
        if stated is None:
            return cls()
        if not isinstance(stated, Mapping):
            raise ConfigurationError(f"is of type {type(stated).__name__}", "a mapping", key="notifications")
        for name, value in stated.items():
            _check_stated(name, value)
        values = {name: value for name, value in stated.items() if value is not None}
        key = values.get("adapter_key") or values.get("adapter")
        provider = values.get("provider") or (values.get("adapter_provider") if key else None)
        return cls(
            adapter_key=key or values.get("adapter_provider"),
            adapter_provider=provider,
            target=values.get("target"),
            channel=values.get("channel"),
            title_template=values.get("title_template") or values.get("title"),
            include_context=values.get("include_context", True),
            extra_payload=values.get("extra_payload", {}),
        )


def _check_stated(name: str, value: object) -> None:
    where = f"notifications.{name}"
    if name not in _STATED:
        near = get_close_matches(name, _STATED, 1)
        raise ConfigurationError("is unknown", near[0] if near else ", ".join(_STATED), key=where)
    if value is not None and not isinstance(value, _STATED[name]):
        wanted = {str: "text", bool: "true or false"}.get(_STATED[name], "a mapping")
        raise ConfigurationError(f"is of type {type(value).__name__}", wanted, key=where)


class NotificationRouter:
    """Send records by the messengers that their routes name.

    Args:
        messengers: Where messengers come from; an adapter bridge is one.
        default_adapter_key: The key for routes that name none; see `default_adapter_key`.
    """

    def __init__(self, messengers: MessengerSource, *, default_adapter_key: str | None = None) -> None:
        self._messengers = messengers
        self._default_adapter_key = default_adapter_key

    async def send(self, record: NotificationRecord, route: NotificationRoute | None = None) -> tuple[Receipt, ...]:
        """Send a record, and return the evidence.

        It goes to the route's target or channel; else to each of the record's recipients; else to its channel. A
        recipient that cannot be reached does not keep the others from being reached.

        Args:
            record: What to say.
            route: Where to; by default the default route.

        Returns:
            One receipt for each message, in the order of the recipients.

        Raises:
            ConfigurationError: No messenger is named.
            CandidateNotFoundError: There is no such messenger.
            AdapterError: A message was not sent: the first error, as the messenger raised it; with several recipients
                its notes say who was reached.
        """
        route = route or NotificationRoute()
        key = route.adapter_key or self._default_adapter_key
        if key is None:
            raise ConfigurationError(
                f"notification {_shortened(record.message)!r} names no messenger, and there is no default one",
                "select one, adapters.selections.messaging = '<provider>', or name its key in the workflow's "
                "notifications.adapter_key",
            )
        receipts: list[Receipt] = []
        failures: list[tuple[str | None, Exception]] = []
        targets = _targets(record, route)
        async with self._messengers.lease(key, provider=route.adapter_provider) as messenger:
            for target in targets:
                try:
                    result = await messenger.send(_message(record, route, target))
                    receipts.append(_receipt(key, route.adapter_provider, target, result))
                except Exception as error:  # noqa: BLE001 - one recipient must not block the others; raised below
                    failures.append((target, error))
        if failures:
            first = failures[0][1]
            if len(targets) > 1:
                first.add_note(_reached(receipts, failures))
            raise first
        return tuple(receipts)


def default_adapter_key(selections: Mapping[str, str]) -> str | None:
    """Return the key that notifications go to where no route names one, or None.

    Args:
        selections: The selections of the adapter domain, in their order: the first key that begins with
            ``notifications``, else ``messaging``.
    """
    named = next((key for key in selections if key.startswith("notifications")), None)
    return named or ("messaging" if "messaging" in selections else None)


def _targets(record: NotificationRecord, route: NotificationRoute) -> tuple[str | None, ...]:
    # The operator's word goes before the workflow's: an address in a record need not mean anything to this messenger.
    named = route.target or route.channel
    if named:
        return (named,)
    return tuple(dict.fromkeys(record.recipients)) or (record.channel or None,)


def _message(record: NotificationRecord, route: NotificationRoute, target: str | None) -> NotificationMessage:
    text = record.message
    if route.include_context and record.context:
        lines = (f"- {_one_line(name)}: {_one_line(value)}" for name, value in record.context.items())
        text = "\n".join([f"{text}\n", "Context:", *lines])
    channel = route.channel or record.channel
    if route.title is not None:
        title = route.title
    elif route.title_template is not None:
        fields = {"level": record.level, "channel": channel, "message": record.message}
        title = _filled(route.title_template, fields)
    else:
        title = f"[{record.level.upper()}] {channel}"
    return NotificationMessage(
        text=text, target=target, title=_one_line(title), extra_payload=dict(route.extra_payload)
    )


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Fill a template in; it reaches the fields' text and nothing behind it (str.format would follow attributes)."""
    hint = f"the fields {', '.join(f'{{{name}}}' for name in _TEMPLATE_FIELDS)}, and {{{{ for a brace"
    parts: list[str] = []
    try:
        for literal, name, form, conversion in Formatter().parse(template):
            parts.append(literal)
            if name is None:
                continue
            if name not in fields or form or conversion:
                asked = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise ConfigurationError(f"title template {template!r} has the field {asked!r}", hint)
            parts.append(fields[name])
    except ValueError as error:
        raise ConfigurationError(f"title template {template!r} cannot be read: {error}", hint) from error
    return "".join(parts)


def _one_line(value: object) -> str:
    """Return a value on one line: a line break in a title starts a header, one in a context forges an entry."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _receipt(key: str, provider: str | None, target: str | None, result: object) -> Receipt:
    message_id = getattr(result, "message_id", None)
    status_code = getattr(result, "status_code", None)
    if not isinstance(message_id, str) or not isinstance(status_code, int):
        raise AdapterError(
            f"messenger adapter:{key} returned {type(result).__name__} for a message to {target!r}, not a receipt",
            "a provider whose send() returns message_id and status_code",
        )
    return Receipt(
        adapter_key=key, adapter_provider=provider, target=target, message_id=message_id, status_code=status_code
    )


def _reached(receipts: list[Receipt], failures: list[tuple[str | None, Exception]]) -> str:
    sent = ", ".join(f"{receipt.target} ({receipt.message_id})" for receipt in receipts) or "nobody"
    missed = ", ".join(f"{target} ({type(error).__name__})" for target, error in failures)
    return f"reached: {sent}; not reached: {missed}"
