"""Every error Oneiric raises, in one tree.

::

    OneiricError
    ├─ RegistrationError   DuplicateCandidateError InvalidCandidateError CatalogError
    ├─ ResolutionError     CandidateNotFoundError (SelectionNotFoundError) CapabilityNotFoundError
    ├─ LoadError           FactoryNotFoundError FactoryNotAllowedError MissingExtraError
    ├─ LifecycleError      ActivationError UnhealthyError SwapError DeadlineError InactiveError PausedError
    ├─ ConfigurationError  SecretNotFoundError
    ├─ StoreError
    ├─ ManifestError       SignatureError DigestError SchemaError ExpiredError RollbackError UnsafePathError
    ├─ WorkflowError       CycleError NodeError CheckpointError (RunNotFoundError)
    ├─ DispatchError
    ├─ FetchError          FetchTimeoutError FetchStatusError FetchRefusedError
    └─ AdapterError        UnavailableError AdapterTimeoutError RejectedError AuthenticationError

A class exists only where a caller would branch on it. An error carries data, survives pickling and copying, and
reads: what failed and where → what was found → what to try. ``message`` is the first two, ``hint`` the last;
``str(error)`` joins them. ``exit_code`` is what the ``oneiric`` command exits with, ``http_status`` what an HTTP
surface answers.
"""

from oneiric.core._errors_choosing import (
    CandidateNotFoundError,
    CapabilityNotFoundError,
    CatalogError,
    DuplicateCandidateError,
    FactoryNotAllowedError,
    FactoryNotFoundError,
    InvalidCandidateError,
    LoadError,
    MissingExtraError,
    OneiricError,
    RegistrationError,
    ResolutionError,
    SelectionNotFoundError,
)
from oneiric.core._errors_running import (
    ActivationError,
    AdapterError,
    AdapterTimeoutError,
    AuthenticationError,
    CheckpointError,
    ConfigurationError,
    CycleError,
    DeadlineError,
    DigestError,
    DispatchError,
    ExpiredError,
    FetchError,
    FetchRefusedError,
    FetchStatusError,
    FetchTimeoutError,
    InactiveError,
    LifecycleError,
    ManifestError,
    NodeError,
    PausedError,
    RejectedError,
    RollbackError,
    RunNotFoundError,
    SchemaError,
    SecretNotFoundError,
    SignatureError,
    StoreError,
    SwapError,
    UnavailableError,
    UnhealthyError,
    UnsafePathError,
    WorkflowError,
)

__all__ = [
    "ActivationError",
    "AdapterError",
    "AdapterTimeoutError",
    "AuthenticationError",
    "CandidateNotFoundError",
    "CapabilityNotFoundError",
    "CatalogError",
    "CheckpointError",
    "ConfigurationError",
    "CycleError",
    "DeadlineError",
    "DigestError",
    "DispatchError",
    "DuplicateCandidateError",
    "ExpiredError",
    "FactoryNotAllowedError",
    "FactoryNotFoundError",
    "FetchError",
    "FetchRefusedError",
    "FetchStatusError",
    "FetchTimeoutError",
    "InactiveError",
    "InvalidCandidateError",
    "LifecycleError",
    "LoadError",
    "ManifestError",
    "MissingExtraError",
    "NodeError",
    "OneiricError",
    "PausedError",
    "RegistrationError",
    "RejectedError",
    "ResolutionError",
    "RollbackError",
    "RunNotFoundError",
    "SchemaError",
    "SecretNotFoundError",
    "SelectionNotFoundError",
    "SignatureError",
    "StoreError",
    "SwapError",
    "UnavailableError",
    "UnhealthyError",
    "UnsafePathError",
    "WorkflowError",
]

# The tree is one public module to users: tracebacks and pickles name it, not where a class is written down.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
