"""A text with secrets in it that are not fetched yet."""

from collections.abc import Mapping, Sequence
from typing import Never

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, SecretNotFoundError

__all__ = ["SecretTemplate"]


class SecretTemplate(Secret):
    """Stand where a `Secret` will stand, once its parts are fetched.

    It takes a secret's place in models, and like one it never prints. What is around the references is
    hidden too: ``${ONEIRIC_SECRET_…}`` may have been put there.

    Args:
        literals: The text before, between and after the references: one more than there are ids.
        ids: The ids referred to, in order.

    Attributes:
        ids: The ids referred to, each once, in order of appearance.
    """

    __slots__ = ("_literals", "_wanted", "ids")

    def __init__(self, literals: Sequence[str], ids: Sequence[str]) -> None:
        if len(literals) != len(ids) + 1:
            raise ValueError("a template has one literal more than ids")
        super().__init__(repr((tuple(literals), tuple(ids))))
        self._literals, self._wanted = tuple(literals), tuple(ids)
        self.ids: tuple[str, ...] = tuple(dict.fromkeys(ids))

    def render(self, secrets: Mapping[str, Secret]) -> Secret:
        """Return the text with the secrets in it, as a secret.

        Args:
            secrets: Id → secret.

        Raises:
            SecretNotFoundError: One of the ids is not in *secrets*.
        """
        text = self._literals[0]
        for id_, literal in zip(self._wanted, self._literals[1:], strict=True):
            if id_ not in secrets:
                raise SecretNotFoundError(f"there is no secret {id_!r}")
            text += secrets[id_].reveal() + literal
        return Secret(text)

    @property
    def masked(self) -> str:
        """The references as they are written, and ``***`` for any text around them."""
        shown = ["***" if literal else "" for literal in self._literals]
        return shown[0] + "".join(f"${{secret:{id_}}}{text}" for id_, text in zip(self._wanted, shown[1:], strict=True))

    def reveal(self) -> Never:
        """Refuse: there is nothing to reveal before `render`."""
        raise ConfigurationError(
            f"{self.masked} was used before it was fetched", "await resolve_secrets(…), or render it"
        )

    def __repr__(self) -> str:
        return f"SecretTemplate({self.masked!r})"

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) if isinstance(other, SecretTemplate) else False

    __hash__ = Secret.__hash__
