"""Secrets behind one Protocol: ``env`` reads the environment, ``file`` a document or a directory of mounted files.

Importing this package imports no provider and no SDK; each lives in the module that bears its name.
"""

from oneiric.adapters.secrets._protocol import SECRETS, Secrets

__all__ = ["SECRETS", "Secrets"]
