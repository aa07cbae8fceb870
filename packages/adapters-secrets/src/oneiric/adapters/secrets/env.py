"""The embedded source: environment variables with a prefix.

The id ``db/password`` is the variable ``ONEIRIC_SECRET_DB_PASSWORD``: the prefix, then the id with every character that
a variable cannot have replaced by ``_``, in upper case. ``db/password``, ``db-password`` and ``db_password`` are
therefore one variable; there is only the one.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from oneiric.adapters.secrets._ids import check_id, check_ids, closed, is_id
from oneiric.core import Secret
from oneiric.core.errors import SecretNotFoundError

__all__ = ["EnvSecretAdapter", "EnvSecretSettings"]

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_]")


class EnvSecretSettings(BaseModel):
    """Settings of the environment as a source of secrets.

    Attributes:
        prefix: What the name of every variable begins with.
        uppercase_keys: Whether the rest of the name is in upper case.
        required_keys: Ids that must be set: `init` fails without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(default="ONEIRIC_SECRET_", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    uppercase_keys: bool = True
    required_keys: tuple[str, ...] = ()


class EnvSecretAdapter:
    """Give out environment variables as secrets.

    Each call reads the environment as it is then: nothing is kept.

    Args:
        settings: By default, the default settings.
        environ: The variables; by default those of the process.
    """

    def __init__(self, settings: EnvSecretSettings | None = None, *, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings or EnvSecretSettings()
        self._environ = os.environ if environ is None else environ
        self._is_open = self._was_open = False

    async def init(self) -> None:
        """Open it; a closed one stays closed.

        Raises:
            SecretNotFoundError: A required id is not set.
        """
        self._is_open = not self._was_open or self._is_open
        self._was_open = True
        self._check_open()
        missing = self._missing()
        if missing:
            names = ", ".join(self._variable(one) for one in missing)
            raise SecretNotFoundError(f"required secrets are not in the environment: {names}", f"set {names}")

    async def health(self) -> bool:
        """Say whether every required id is set.

        Raises:
            InactiveError: It is not open.
        """
        self._check_open()
        return not self._missing()

    async def cleanup(self) -> None:
        """Close it; every later call raises `InactiveError`."""
        self._is_open = False

    async def get_secret(self, secret_id: str) -> Secret | None:
        """Return the secret, or None when its variable is not set, or is empty."""
        self._check_open()
        value = self._environ.get(self._variable(secret_id))
        return Secret(value) if value else None

    async def list_secrets(self) -> tuple[str, ...]:
        """Return the ids there are, sorted: the variables' names without the prefix, in lower case."""
        self._check_open()
        prefix, is_upper = self._settings.prefix, self._settings.uppercase_keys
        found = set()
        for name, value in self._environ.items():
            rest = name.removeprefix(prefix)
            secret_id = rest.lower() if is_upper else rest
            # A variable in lower case is none that an id leads to; one whose name holds other signs neither.
            if value and rest != name and is_id(secret_id) and self._variable(secret_id) == name:
                found.add(secret_id)
        return tuple(sorted(found))

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        """Check *ids*; there is nothing to forget."""
        self._check_open()
        check_ids(ids)

    def _variable(self, secret_id: str) -> str:
        name = _NOT_IN_A_NAME.sub("_", check_id(secret_id))
        return self._settings.prefix + (name.upper() if self._settings.uppercase_keys else name)

    def _missing(self) -> list[str]:
        return [one for one in self._settings.required_keys if not self._environ.get(self._variable(one))]

    def _check_open(self) -> None:
        if not self._is_open:
            raise closed("env", was_open=self._was_open)

    def __repr__(self) -> str:
        return f"<EnvSecretAdapter {self._settings.prefix}*>"
