"""A string that does not let itself be seen by accident."""

from typing import Any, Final, Never

__all__ = ["Secret"]

_MASK: Final = "***"


class Secret:
    """Hold a secret string; only `reveal` gives it out.

    It prints and formats as ``***``, refuses pickling, compares in constant time, and all secrets hash alike, so that
    no log line, traceback, JSON dump or dictionary carries a trace of the value. pydantic models accept a `Secret` or
    a string for such a field and dump ``"***"``; core does not import pydantic for that.

    Args:
        value: The secret; must be a string.

    Raises:
        TypeError: *value* is not a string.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret holds a str, not {type(value).__name__}")
        self.__value = value

    def reveal(self) -> str:
        """Return the value. Call it where the value is used, as late as possible."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret('{_MASK}')"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        from hmac import compare_digest  # noqa: PLC0415 - hashlib comes with it; only a comparison pays for that

        return compare_digest(
            self.__value.encode("utf-8", "surrogatepass"), other.__value.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash(Secret)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret cannot be pickled: hand over its id, not its value")

    def __getstate__(self) -> Never:
        raise TypeError("a Secret cannot be pickled: hand over its id, not its value")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> dict[str, Any]:
        """Describe the field to pydantic: a Secret or a string goes in, ``***`` comes out."""

        def validate(value: object) -> Secret:
            if isinstance(value, Secret):
                return value
            if isinstance(value, str):
                return Secret(value)
            # pydantic turns a ValueError into its own error and would echo the input of a failed str schema.
            raise ValueError("must be a string")

        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": validate},
            "serialization": {"type": "function-plain", "function": str, "return_schema": {"type": "str"}},
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        """Describe the field in JSON Schema as a write-only password."""
        return {"type": "string", "format": "password", "writeOnly": True}
