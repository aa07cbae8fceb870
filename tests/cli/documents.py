"""Documents of `--json`, held against what is published."""

import json
from importlib.resources import files
from typing import Any

import jsonschema


def check(command: str, text: str) -> Any:
    """Read exactly one document and hold it against the schema that is published for the command."""
    document = json.loads(text)
    schema = json.loads(files("oneiric.cli").joinpath(f"schemas/{command}.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    return document
