"""From arguments to an exit code: run the command, print its result or its error."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from oneiric.cli._app import command_line
from oneiric.cli._output import Printed, Result, Style, json_text, make_stdio_safe, printable, write

__all__ = ["run"]

_INTERRUPTED = 130


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    make_stdio_safe()
    wants = _flags_in(given)
    try:
        return _run(given or ["--help"], wants)
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as exit_:  # typer's way to say that the reader left
        return _reader_left() if exit_.code == 1 else int(exit_.code or 0)


def _run(arguments: list[str], wants: frozenset[str]) -> int:
    try:
        answer = command_line()(arguments, prog_name="oneiric", standalone_mode=False)
    except KeyboardInterrupt:
        answer = _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last boundary: a person reads a sentence, never a traceback
        return _report(error, wants)
    if isinstance(answer, Result):
        _print(answer, wants)
        return answer.exit_code
    if isinstance(answer, Printed):
        sys.stdout.flush()
        return answer.exit_code
    if answer == _INTERRUPTED:
        return _print_error("Interrupted", "interrupted", None, _INTERRUPTED, wants)
    sys.stdout.flush()
    return int(answer or 0)


def _flags_in(arguments: list[str]) -> frozenset[str]:
    """Return the flags among the arguments: an error may come before they are parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    short = {"-q": "--quiet"}
    return frozenset(short.get(option, option) for option in options) & {"--json", "--quiet", "--debug"}


def _print(result: Result, wants: frozenset[str]) -> None:
    if result.as_json or "--json" in wants:
        sys.stdout.write(json_text(result.document))
        sys.stdout.flush()
    else:
        write(sys.stdout, result.text(Style.of(sys.stdout)))
    if result.notes and "--quiet" not in wants:
        write(sys.stderr, [f"note: {printable(note)}" for note in result.notes])


def _report(error: Exception, wants: frozenset[str]) -> int:
    """Print an error as a sentence and a hint, and return its exit code."""
    if "--debug" in wants:
        import traceback  # noqa: PLC0415 - only for who debugs

        traceback.print_exception(error, file=sys.stderr)
    name = type(error).__name__
    if hasattr(error, "format_message"):  # the parser's errors have no public base class
        return _print_error("UsageError", _sentence(error), _usage_hint(error), 2, wants)
    if hasattr(error, "exit_code") and hasattr(error, "hint"):  # an OneiricError; core may not be loaded yet
        message = "; ".join([str(getattr(error, "message", error)), *getattr(error, "__notes__", ())])
        return _print_error(name, message, error.hint, error.exit_code, wants)
    sentence = f"internal error, {name}: {error}" if str(error) else f"internal error, {name}"
    return _print_error(name, sentence, "the same command with --debug", 1, wants)


def _sentence(error: Any) -> str:
    return str(error.format_message()).rstrip(".")


def _usage_hint(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'oneiric'} --help"


def _print_error(name: str, message: str, hint: str | None, exit_code: int, wants: frozenset[str]) -> int:
    if "--json" in wants:
        sys.stdout.write(json_text({"error": {"type": name, "message": message, "hint": hint}}))
        sys.stdout.flush()
        return exit_code
    style = Style.of(sys.stderr)
    lines = [f"{style('red', 'error:')} {printable(message)}"]
    if hint:
        lines.append(f"Try: {printable(hint)}")
    sys.stdout.flush()
    write(sys.stderr, lines)
    return exit_code


def _reader_left() -> int:
    """End quietly when what reads our output has read enough, as ``| head`` does."""
    # The interpreter flushes stdout at its end, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 0
