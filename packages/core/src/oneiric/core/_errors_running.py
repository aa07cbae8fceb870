"""Errors of running components, of settings and stores, of what is delivered, and of what lies behind adapters."""

from typing import ClassVar, Literal

from oneiric.core._errors_choosing import OneiricError


class LifecycleError(OneiricError):
    """A component cannot be used or changed as asked: ``LifecycleError(message, hint)``."""

    http_status = 409


class _StepError(LifecycleError):
    """An activation stopped at a step: ``(domain, key, provider, step, reason, rolled_back, tenant)``.

    Attributes:
        step: The step that failed, such as ``"load"``, ``"init"`` or ``"pre_swap"``.
        rolled_back: True when an older generation goes on serving.
        tenant: Whose slot it was, or None for the base one.
    """

    _verb: ClassVar[str] = "start"
    _hint_at = 7

    def __init__(  # noqa: PLR0917 - positional, because pickling rebuilds from args
        self,
        domain: str,
        key: str,
        provider: str,
        step: str,
        reason: str,
        rolled_back: bool = False,  # noqa: FBT001, FBT002 - as above
        tenant: str | None = None,
        hint: str | None = None,
    ) -> None:
        Exception.__init__(self, domain, key, provider, step, reason, rolled_back, tenant, hint)
        self.domain, self.key, self.provider = domain, key, provider
        self.step, self.reason, self.rolled_back, self.tenant = step, reason, rolled_back, tenant

    @property
    def message(self) -> str:
        """The key, provider, step and cause, and what serves now."""
        whose = f" (tenant {self.tenant})" if self.tenant else ""
        serves = "; the old one serves" if self.rolled_back else ""
        return (
            f"{self.domain}:{self.key}{whose} did not {self._verb} provider {self.provider!r}: "
            f"{self.step} failed: {self.reason}{serves}"
        )


class ActivationError(_StepError):
    """A first activation stopped at ``step``; nothing was bound before and nothing is now."""


class SwapError(_StepError):
    """A swap stopped at ``step`` before the binding; the old generation serves if ``rolled_back``."""

    _verb = "swap to"


class UnhealthyError(LifecycleError):
    """An instance reported itself unhealthy."""

    exit_code = 3
    http_status = 503


class DeadlineError(LifecycleError):
    """A step took longer than it may: ``DeadlineError(step, seconds)``."""

    http_status = 504
    _hint_at = None

    def __init__(self, step: str, seconds: float) -> None:
        Exception.__init__(self, step, seconds)
        self.step, self.seconds = step, seconds

    @property
    def message(self) -> str:
        """The step and its deadline."""
        return f"{self.step} took longer than its deadline of {self.seconds:g} s"


class InactiveError(LifecycleError):
    """Nothing is active for a key, and the call does not activate it."""

    exit_code = 6
    http_status = 503


class PausedError(LifecycleError):
    """A key refuses new work: ``PausedError(domain, key, state, note, hint)``.

    Attributes:
        state: ``"paused"`` or ``"draining"``.
        note: Why, in the words of who did it, or None.
    """

    http_status = 503
    _hint_at = 4

    def __init__(
        self, domain: str, key: str, state: str = "paused", note: str | None = None, hint: str | None = None
    ) -> None:
        Exception.__init__(self, domain, key, state, note, hint)
        self.domain, self.key, self.state, self.note = domain, key, state, note

    @property
    def message(self) -> str:
        """The key, its state and the note."""
        return f"{self.domain}:{self.key} is {self.state} and takes no new work{f': {self.note}' if self.note else ''}"


class ConfigurationError(OneiricError):
    """A setting is wrong: ``ConfigurationError(message, hint, file, line, key)``.

    Attributes:
        file: Path of the file at fault, or None.
        line: 1-based line, or None where it is not known for certain.
        key: Dotted key, such as ``"adapters.selections.cache"``, or None.
    """

    exit_code = 2
    http_status = 422

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, hint, file, line, key)
        self.file, self.line, self.key = file, line, key

    @property
    def message(self) -> str:
        """Where, then what is wrong there."""
        text = str(self.args[0])
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.key, text) if part)


class SecretNotFoundError(ConfigurationError):
    """A secret that a setting names does not exist."""


class StoreError(OneiricError):
    """A local store cannot do what was asked: ``StoreError(message, hint, kind)``.

    Attributes:
        kind: ``"locked"`` by somebody else; ``"corrupt"``; ``"full"``, the disk or its quota; ``"readonly"``;
            ``"io"``; ``"newer"``, written by a later release; ``"foreign"``, not this store's own file. None where
            the work itself was wrong, and the store is well.
    """

    http_status = 503

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        kind: Literal["locked", "corrupt", "full", "readonly", "io", "newer", "foreign"] | None = None,
    ) -> None:
        super().__init__(message, hint, kind)
        self.kind = kind


class ManifestError(OneiricError):
    """What was delivered is wrong, and nothing of it was used: ``ManifestError(message, hint)``."""

    http_status = 422


class SignatureError(ManifestError):
    """Too few of the trusted keys signed, or a key or a signature is malformed."""

    exit_code = 5


class DigestError(ManifestError):
    """Bytes are not those that were signed for, or their digest is revoked."""

    exit_code = 5


class SchemaError(ManifestError):
    """A document breaks its schema: ``SchemaError(message, hint, problems)``.

    Attributes:
        problems: One sentence for each thing that is wrong, the first one also in the message.
    """

    def __init__(self, message: str, hint: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint, problems)
        self.problems = problems


class ExpiredError(ManifestError):
    """A document is no longer valid, or not yet."""

    exit_code = 5


class RollbackError(ManifestError):
    """A document is older than one already trusted, or has its version and other bytes."""

    exit_code = 5


class UnsafePathError(ManifestError):
    """An artifact holds a file that must not be unpacked, such as one outside its directory."""


class DispatchError(OneiricError):
    """An event is malformed, or cannot be given to its handlers: ``DispatchError(message, hint)``."""

    http_status = 422


class WorkflowError(OneiricError):
    """A workflow is malformed, or a run cannot go on as asked: ``WorkflowError(message, hint, problems)``.

    Attributes:
        problems: One sentence for each thing that is wrong with a definition, the first one also in the message.
    """

    http_status = 422

    def __init__(self, message: str, hint: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint, problems)
        self.problems = problems


class CycleError(WorkflowError):
    """Nodes wait for one another: ``CycleError(workflow, nodes)``, where the last node is the first again."""

    _hint_at = None

    def __init__(self, workflow: str, nodes: tuple[str, ...]) -> None:
        Exception.__init__(self, workflow, nodes)
        self.workflow, self.nodes = workflow, nodes
        self.problems = (self.message,)

    @property
    def message(self) -> str:
        """The workflow and the circle."""
        return f"workflow {self.workflow!r} goes in a circle: {' → '.join(self.nodes)}"


class NodeError(WorkflowError):
    """A node of a run failed for good: ``NodeError(workflow, run_id, node, reason, attempts, hint)``."""

    http_status = 500
    _hint_at = 5

    def __init__(  # noqa: PLR0917 - positional, because pickling rebuilds from args
        self, workflow: str, run_id: str, node: str, reason: str, attempts: int = 1, hint: str | None = None
    ) -> None:
        Exception.__init__(self, workflow, run_id, node, reason, attempts, hint)
        self.workflow, self.run_id, self.node = workflow, run_id, node
        self.reason, self.attempts = reason, attempts
        self.problems = ()

    @property
    def message(self) -> str:
        """The node, the run, and why."""
        often = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"node {self.node!r} of workflow {self.workflow!r} failed{often} in run {self.run_id!r}: {self.reason}"


class CheckpointError(WorkflowError):
    """What is kept of a run does not allow what was asked: ``CheckpointError(message, hint, kind)``.

    Attributes:
        kind: ``"held"``, somebody else runs it; ``"lost"``, somebody else took it over; ``"changed"``, its
            definition is another one now; ``"state"``, it is not in a state for that; ``"store"``, nothing can be
            written, and the cause says why; None for a run that does not exist.
    """

    http_status = 409

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        kind: Literal["held", "lost", "changed", "state", "store"] | None = None,
    ) -> None:
        Exception.__init__(self, message, hint, kind)
        self.kind = kind
        self.problems = ()


class RunNotFoundError(CheckpointError):
    """There is no run of that id."""

    exit_code = 4
    http_status = 404


class FetchError(OneiricError):
    """Something could not be fetched: ``FetchError(message, hint)``."""

    http_status = 502


class FetchTimeoutError(FetchError):
    """It did not arrive in time, or came slower than the minimum rate."""

    http_status = 504


class FetchStatusError(FetchError):
    """A server answered otherwise than asked: ``FetchStatusError(message, hint, status, retry_after_seconds)``.

    Attributes:
        status: The HTTP status, or None.
        retry_after_seconds: How long the server asks to be left alone, or None.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint, status, retry_after_seconds)
        self.status, self.retry_after_seconds = status, retry_after_seconds


class FetchRefusedError(FetchError):
    """A URL, an address or an answer is outside the policy; nothing of it was used."""

    http_status = 403


class AdapterError(OneiricError):
    """A backend behind an adapter could not do what was asked; vendor exceptions never get further than this."""

    http_status = 502


class UnavailableError(AdapterError):
    """The backend cannot be reached."""

    http_status = 503


class AdapterTimeoutError(AdapterError):
    """The backend did not answer in time; whether it did the work is not known."""

    http_status = 504


class RejectedError(AdapterError):
    """The backend understood and refused: the request itself is wrong."""

    http_status = 422


class AuthenticationError(AdapterError):
    """The backend did not accept the credentials."""

    http_status = 502
