"""What the commands about roots share: roles from options, and how far a root is signed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._publishing import private_keys, public_keys, read_file, write_file, written
from oneiric.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oneiric.remote.publish import RoleKeys, RootBody

__all__ = ["delegations_in", "roles_given", "root_result", "root_written"]


def roles_given(keys: Mapping[str, Sequence[str] | None], thresholds: Sequence[str]) -> "dict[str, RoleKeys]":
    """Return the roles whose keys were given as options.

    Raises:
        ConfigurationError: A threshold is no ``ROLE=N``, or of a role whose keys were not given.
    """
    from oneiric.remote.publish import RoleKeys  # noqa: PLC0415 - a distribution of its own

    counts: dict[str, int] = {}
    for text in thresholds:
        role, _, number = text.partition("=")
        if not keys.get(role) or not number.isdecimal():
            raise ConfigurationError(
                f"--threshold must read ROLE=N of a role whose keys are given, not {text[:40]!r}", "--threshold root=2"
            )
        counts[role] = int(number)
    return {
        role: RoleKeys(keys=public_keys(given), threshold=counts.get(role, 1)) for role, given in keys.items() if given
    }


def delegations_in(path: str | None) -> list[dict[str, Any]] | None:
    """Read delegations from a file; None where none was named.

    Raises:
        ConfigurationError: It holds no list of tables.
    """
    if path is None:
        return None
    from oneiric.remote.manifest import read_document  # noqa: PLC0415 - a distribution of its own

    listed = read_document(read_file(path), path).get("delegations")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ConfigurationError(f"{path} holds no list of delegations", "delegations: [{publisher: …, keys: …}]")
    return listed


def root_written(body: bytes, target: str, keys: Sequence[str], before: "RootBody | None" = None) -> Result:
    """Sign a root's body, write it, and say how far it is signed."""
    from oneiric.remote.envelope import ROOT_TYPE  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.publish import signed  # noqa: PLC0415 - as above

    envelope = signed(body, ROOT_TYPE, private_keys(keys))
    write_file(target, envelope)
    return root_result(target, envelope, before)


def root_result(path: str, envelope: bytes, before: "RootBody | None") -> Result:
    """Say what a root holds and whose signatures it lacks."""
    from oneiric.remote.envelope import Envelope  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.publish import root_after  # noqa: PLC0415 - as above

    root, parsed = root_after(envelope, path), Envelope.parse(envelope)
    missing = [f"{_lacking(parsed, root)} of its own root keys"] if _lacking(parsed, root) else []
    if before is not None and _lacking(parsed, before):
        missing.append(f"{_lacking(parsed, before)} of the root keys before it")
    document = {
        **written(path, envelope),
        "product": root.product,
        "version": root.version,
        "expires": root.expires,
        "complete": not missing,
        "missing": missing,
    }
    return Result(document=document, text=lambda style: _text(document, style))


def _lacking(envelope: Any, root: "RootBody") -> int:
    from oneiric.remote.keys import PublicKey  # noqa: PLC0415 - a distribution of its own

    role = root.roles.root
    signers = envelope.signed_by([PublicKey.from_base64(key) for key in role.keys])
    return max(0, role.threshold - len(signers))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    name = f"{document['product']} root version {document['version']}"
    yield f"{style('bold', printable(name))}, until {document['expires']}"
    yield f"  {printable(document['path'])}"
    yield f"  sha256 {document['sha256']}"
    for each in document["missing"]:
        yield style("yellow", f"  not complete: lacks {each}; oneiric root sign")
