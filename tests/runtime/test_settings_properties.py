"""Whatever stands in variables, overrides and files: settings that can be shown, or an error of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings import describe, explain_setting, load_problems, load_settings, setting_fields

KEYS = [field.key.replace("[]", ".0") for field in setting_fields()]
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["${", "${X}", "${secret:a}", "$${x}", "x${secret:a}${ONEIRIC_SECRET_B}", "null", "true", "-1", "1e999", "[", "{}",
     "[{}]", '{"a": {"b": null}}', '{"a": [1, {"c": "${secret:x}"}]}', "a,b", "\x00", "\udcff"]
)  # fmt: skip
NAMES = st.sampled_from(KEYS) | st.builds(
    "{}.{}".format, st.sampled_from(KEYS), st.text(st.sampled_from('ab_."-1 é'), max_size=6)
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def check(**source: Any) -> None:
    """Load; what loads can be shown and explained, what does not has problems, the first one first."""
    source = {"environ": {"ONEIRIC_SECRET_B": "b"}} | source
    refusal: ConfigurationError | None = None
    try:
        loaded = load_settings(**source)
    except ConfigurationError as error:
        refusal = error
    problems = load_problems(**source)
    if refusal is not None:
        assert str(refusal).startswith(problems[0].message)
        return
    assert problems == []
    assert len(loaded.digest) == 64
    for row in describe(loaded, show_defaults=True):
        assert json.dumps(row.value) is not None
        explained = explain_setting(loaded, row.key)
        assert (explained.value, explained.origin) == (row.value, row.origin)


@settings(max_examples=60, deadline=None)
@given(variables=st.dictionaries(NAMES, TEXTS, max_size=3))
def test_any_variables_load_or_are_refused(variables: dict[str, str]) -> None:
    environ = {f"ONEIRIC_{key.upper().replace('.', '__')}": text for key, text in variables.items()}
    check(environ=environ | {"ONEIRIC_SECRET_B": "b"})


@settings(max_examples=60, deadline=None)
@given(overrides=st.lists(st.builds("{}={}".format, NAMES, TEXTS) | TEXTS, max_size=3))
def test_any_overrides_load_or_are_refused(overrides: list[str]) -> None:
    check(overrides=overrides)


@settings(max_examples=60, deadline=None)
@given(overrides=st.dictionaries(NAMES, PLAIN, max_size=3))
def test_any_values_from_code_load_or_are_refused(overrides: dict[str, Any]) -> None:
    check(overrides=overrides)


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.sampled_from(sorted({key.partition(".")[0] for key in KEYS})), PLAIN, max_size=3))
def test_any_file_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    path = Path(tmp_path_factory.getbasetemp() / "any.json")
    path.write_text(json.dumps(content))
    check(path=path)
