"""What a running application stands on: its settings and its log.

Owned here: reading and checking configuration (`oneiric.runtime.settings`) and the log on stderr
(`oneiric.runtime.logging`). Nothing here knows the bridges or the application that use it.
"""
