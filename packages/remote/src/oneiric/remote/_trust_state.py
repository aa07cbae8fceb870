"""What a client remembers between two runs, so that nothing older is taken for new."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oneiric.core.snapshot import read_json, write_json

__all__ = ["Accepted", "TrustedState"]

_SCHEMA: Final = 1
_MOST_ROOTS: Final = 1024
#: The end of the year 9999: no document can state a later time.
_LATEST: Final = 253_402_300_800.0
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The last manifest that was accepted from a publisher.

    Attributes:
        product: Whose it was.
        channel: Which line of it.
        version: Its version.
        sha256: Of its envelope.
        length: Of its envelope, in bytes.
        issued: When it was signed, in seconds since the epoch.
        signed_by: Ids of the keys that signed it.
    """

    product: str
    channel: str
    version: int
    sha256: str
    length: int
    issued: float
    signed_by: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"signed_by": list(self.signed_by)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Accepted":
        """Read what `as_dict` returned.

        Raises:
            ValueError: It is something else.
        """
        fields = {name: data[name] for name in ("product", "channel", "version", "sha256", "length", "issued")}
        kinds = {name: int if name in {"version", "length"} else str for name in fields} | {"issued": float}
        wrong = [name for name, value in fields.items() if type(value) is not kinds[name]]
        if wrong or not 0 <= fields["issued"] < _LATEST:
            raise ValueError(f"{(wrong or ['issued'])[0]} is of the wrong kind")
        return cls(**fields, signed_by=tuple(str(each) for each in data["signed_by"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedState:
    """What is remembered; kept apart from any cache, and verified again whenever it is used.

    Attributes:
        roots: Envelopes of the roots that followed the pinned one, in order.
        freshness: Envelope of the last freshness document; None when there was none.
        manifests: Publisher → what was last accepted; the product's own is under ``""``.
        problem: Why what was remembered is lost, as a sentence; None when it is not.
    """

    roots: tuple[bytes, ...] = ()
    freshness: bytes | None = None
    manifests: Mapping[str, Accepted] = field(default_factory=dict)
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; the problem is no part of what is remembered."""
        return {
            "schema": _SCHEMA,
            "roots": [base64.b64encode(each).decode() for each in self.roots],
            "freshness": None if self.freshness is None else base64.b64encode(self.freshness).decode(),
            "manifests": {name: each.as_dict() for name, each in self.manifests.items()},
        }

    @classmethod
    def from_dict(cls, data: Any) -> "TrustedState":
        """Read what `as_dict` returned; anything else is a state that was lost, and says so."""
        try:
            if data["schema"] != _SCHEMA or len(data["roots"]) > _MOST_ROOTS:
                raise ValueError("it is of another schema")
            freshness = data["freshness"]
            return cls(
                roots=tuple(base64.b64decode(each, validate=True) for each in data["roots"]),
                freshness=None if freshness is None else base64.b64decode(freshness, validate=True),
                manifests={str(name): Accepted.from_dict(each) for name, each in data["manifests"].items()},
            )
        except (AttributeError, KeyError, LookupError, TypeError, ValueError, OverflowError) as error:
            return cls(problem=f"the trusted state cannot be read ({type(error).__name__}: {error})"[:300])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TrustedState":
        """Read a state file; one that is not there is empty, one that is broken is lost and says so."""
        try:
            document = read_json(path, _ABSENT)
        except (OSError, ValueError) as error:
            return cls(problem=f"the trusted state cannot be read ({error})"[:300])
        return cls() if document is _ABSENT else cls.from_dict(document)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace the state file: whole, of mode 0600, and on the disk when this returns.

        Raises:
            OSError: It cannot be written; the old one stands.
        """
        write_json(path, self.as_dict())
