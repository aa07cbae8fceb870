"""Domains: what an application asks for adapters, services and whatever domains it has of its own.

A bridge binds one domain of the resolver and the lifecycle to its section of the settings. `AdapterBridge`
and `ServiceBridge` are bridges of the built-in domains; `DomainBridge` serves any.
"""

from oneiric.domains._bridge import AdapterBridge, DomainBridge, ServiceBridge
from oneiric.domains._handle import DomainHandle

__all__ = ["AdapterBridge", "DomainBridge", "DomainHandle", "ServiceBridge"]
