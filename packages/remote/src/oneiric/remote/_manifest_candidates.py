"""Entries of a manifest → candidates, each with its own verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oneiric.core.catalog import candidate_from_row
from oneiric.core.errors import FactoryNotAllowedError, InvalidCandidateError
from oneiric.core.resolution import Candidate, CandidateSource
from oneiric.core.security import FactoryAllowList, check_factory

__all__ = ["Entries", "FactoryPolicy", "Refusal", "candidates_of"]

_NOTHING = FactoryAllowList(())
#: What a row's own metadata may not say, because it is said by fields that are checked, or by whoever verified them.
_RESERVED = frozenset({"artifact_path", "manifest", "remote_uri", "sha256", "size", "source"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryPolicy:
    """Which modules remote factories may come from: nothing, but for what is listed.

    Attributes:
        domains: Domain → the modules its factories may come from.
        general: For the domains that are not listed; by default nothing.
    """

    domains: Mapping[str, FactoryAllowList] = field(default_factory=dict)
    general: FactoryAllowList = _NOTHING

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "FactoryPolicy":
        """Read ``ONEIRIC_FACTORY_ALLOWLIST`` for every domain: empty denies all, absent is ``oneiric``.

        Raises:
            ConfigurationError: An entry is not a dotted module name.
        """
        return cls(general=FactoryAllowList.from_environ(environ))

    def check(self, candidate: Candidate) -> None:
        """Refuse a candidate that names code from elsewhere; nothing is imported.

        Raises:
            FactoryNotAllowedError: Its factory or its settings model is outside what its domain may name.
        """
        allowed = self.domains.get(candidate.domain, self.general)
        # That it is a factory string, and blocks no module, was decided when the candidate was made of its row.
        for text in (candidate.factory, candidate.settings_model):
            if text is not None and not allowed.permits(str(text)):
                check_factory(text, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an entry was not taken.

    Attributes:
        number: Its place in the manifest, from 1.
        name: ``domain:key/provider`` as far as it states them.
        reason: One sentence.
        is_policy: True when the entry is well-formed, and this client does not want it.
    """

    number: int
    name: str
    reason: str
    is_policy: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"entry": self.number, "name": self.name, "reason": self.reason, "policy": self.is_policy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What became of a manifest's entries.

    Attributes:
        candidates: Those that were taken, in the order of the manifest.
        refused: The others.
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...] = ()


def candidates_of(
    rows: Iterable[object],
    *,
    origin: str,
    policy: FactoryPolicy | None = None,
    about: Mapping[str, Any] | None = None,
    revoked: frozenset[str] = frozenset(),
    digest_required: bool = True,
) -> Entries:
    """Make candidates of a manifest's entries; what is wrong with one is no matter of the others.

    Args:
        rows: The entries.
        origin: What they come from; withdrawal goes by it.
        policy: Which factories may be named; by default none.
        about: Goes to each candidate's metadata as ``manifest``.
        revoked: SHA-256 of artifacts that must not be used any more.
        digest_required: Refuse an artifact without digest and size.
    """
    policy = policy or FactoryPolicy()
    shared = {"source": "remote", "manifest": dict(about or {})}
    taken: dict[tuple[str, str, str, str], Candidate] = {}
    refused: list[Refusal] = []
    for number, row in enumerate(rows, 1):
        try:
            candidate = _candidate(row, origin, shared, f"entry {number}")
            if candidate.identity in taken:
                raise InvalidCandidateError("provider", "is stated by an earlier entry too", str(candidate))
            _check_artifact(candidate, revoked, digest_required=digest_required)
            policy.check(candidate)
        except FactoryNotAllowedError as error:
            refused.append(Refusal(number=number, name=_name(row), reason=error.message, is_policy=True))
        except InvalidCandidateError as error:
            refused.append(Refusal(number=number, name=_name(row), reason=error.message))
        else:
            taken[candidate.identity] = candidate
    return Entries(candidates=tuple(taken.values()), refused=tuple(refused))


def _candidate(row: Any, origin: str, shared: Mapping[str, Any], where: str) -> Candidate:
    if isinstance(row, dict) and type(stated := row.get("metadata")) is dict and not _RESERVED.isdisjoint(stated):
        row = {**row, "metadata": {name: value for name, value in stated.items() if name not in _RESERVED}}
    return candidate_from_row(row, source=CandidateSource.REMOTE_MANIFEST, origin=origin, where=where, metadata=shared)


def _check_artifact(candidate: Candidate, revoked: frozenset[str], *, digest_required: bool) -> None:
    metadata = candidate.metadata
    digest = metadata.get("sha256")
    if digest is None and not digest_required:
        return
    if "remote_uri" in metadata and digest_required and (digest is None or "size" not in metadata):
        raise InvalidCandidateError("uri", "needs sha256 and size beside it", str(candidate))
    if digest in revoked:
        raise InvalidCandidateError("sha256", f"names an artifact that was revoked, {digest}", str(candidate))


def _name(row: Any) -> str:
    if not isinstance(row, Mapping):
        return "?"
    domain, key, provider = (str(row.get(name, "?"))[:80] for name in ("domain", "key", "provider"))
    return f"{domain}:{key}/{provider}"
