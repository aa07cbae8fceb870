"""The demo: an order service under load whose cache is swapped, and the components that ``--demo`` adds.

`orders` is the service, `load` its customers, `swaps` runs both on any lifecycle manager and counts, `figures`
makes the numbers of it. Nothing in it is scripted: on a lifecycle that does not drain, calls are lost.
"""
