"""``python -m oneiric.app``: the orchestrator without the command line's dependencies, for small images."""

import argparse
import signal
import sys

from oneiric.core.errors import OneiricError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the orchestrator; return the exit code."""
    # Everything is read anew anyway: until reloads are taken, the signal that asks for one must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from oneiric.app import orchestrate  # noqa: PLC0415 - takes most of the start

    parser = argparse.ArgumentParser(
        prog="python -m oneiric.app", description="Run the orchestrator until SIGTERM or SIGINT."
    )
    parser.add_argument("--config", metavar="PATH", help="settings file or directory; by default ONEIRIC_CONFIG")
    parser.add_argument("--profile", metavar="NAME", help="default or serverless")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="a setting, such as http.port=8081; repeatable"
    )
    given = parser.parse_args(arguments)
    try:
        return orchestrate(given.config, profile=given.profile, overrides=given.set)
    except OneiricError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    from oneiric.app import leave

    leave(main())
