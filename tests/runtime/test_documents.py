"""What a settings file may be: three formats, hard limits, exact places, and no other way to fail."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._document import MAX_BYTES, MAX_DEPTH, MAX_NODES, bounded, read_document
from oneiric.runtime.settings._json import parse_json
from oneiric.runtime.settings._toml import parse_toml
from oneiric.runtime.settings._yaml import parse_yaml

PARSERS = {".yml": parse_yaml, ".json": parse_json, ".toml": parse_toml}
CANARY = "S3CR3T-5d0f"


def refusal(suffix: str, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        bounded(PARSERS[suffix](text, f"settings{suffix}"), f"settings{suffix}")
    return caught.value


@pytest.mark.parametrize("suffix", PARSERS)
@given(text=st.text(max_size=200))
def test_any_text_is_a_document_or_a_configuration_error(suffix: str, text: str) -> None:
    try:
        document = PARSERS[suffix](text, "file")
        bounded(document, "file")
    except ConfigurationError:
        return
    assert isinstance(document.data, dict)


FRAGMENTS = st.sampled_from(
    ["a", "b.c", "'", '"', '"""', "'''", "[", "]", "[[", "]]", "{", "}", "=", ":", ": ", ",", "\n", "- ",
     "  ", "#", "\\", "&x", "*x", "<<", "!!str", "---", "%", "1", "true", "null", "|\n", "?", "1e999",
     "\ufeff", "\x00", "\r\n", "\u2028"]
)  # fmt: skip


@pytest.mark.parametrize("suffix", PARSERS)
@given(pieces=st.lists(FRAGMENTS, max_size=30))
def test_any_pieces_of_syntax_are_a_document_or_a_configuration_error(suffix: str, pieces: list[str]) -> None:
    try:
        document = PARSERS[suffix]("".join(pieces), "file")
        bounded(document, "file")
    except ConfigurationError:
        return
    assert isinstance(document.data, dict)


@pytest.mark.parametrize("suffix", PARSERS)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_document_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(raw)
    try:
        document = read_document(path)
    except ConfigurationError as error:
        file = error.file
    else:
        file = str(path)
        assert isinstance(document.data, dict)
    assert file == str(path)


@pytest.mark.parametrize(
    ("text", "says", "line", "key"),
    [
        ("a: &anchor 1\nb: *anchor\n", "an anchor, &anchor", 1, None),
        ("a: 1\nb: *elsewhere\n", "an alias, *elsewhere", 2, None),
        ("a:\n  <<: {b: 1}\n", "a merge key", 2, "a"),
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", "a tag", 2, None),
        ("app:\n  name: x\n  name: y\n", "is given twice", 3, "app.name"),
        ("a: 1\n---\nb: 2\n", "a second document", 2, None),
        ("? [a, b]\n: 1\n", "a key that is not a name", 1, None),
        ("- a\n- b\n", "must be a mapping", None, None),
        ("a: [1, 2\nb: 3\n", "is not valid YAML", 2, None),
        ("a: 'open\n", "is not valid YAML", 2, None),
    ],
)
def test_yaml_refuses_what_settings_do_without_where_it_stands(
    text: str, says: str, line: int | None, key: str | None
) -> None:
    error = refusal(".yml", text)
    assert says in error.message
    assert (error.file, error.line, error.key) == ("settings.yml", line, key)


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30))
    assert "an anchor, &l0" in refusal(".yml", f"l0: &l0 [x, x]\n{levels}\n").message


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"), ("on", "on"), ("y", "y"), ("True", True), ("false", False), ("~", None),
        ("null", None), ("", None),
        ("012", "012"), ("0o17", "0o17"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("12:30:45", "12:30:45"),
        ("-7", -7),
        ("2024-01-01", "2024-01-01"), (".inf", ".inf"), (".nan", ".nan"), ("1.5", 1.5), ("1e3", 1000.0),
        ("'1'", "1"),
        ('"true"', "true"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_yaml_scalars_hold_no_surprise(scalar: str, value: object) -> None:
    found = parse_yaml(f"a: {scalar}\n", "f").data["a"]
    assert (found, type(found)) == (value, type(value))


def test_yaml_keys_are_always_text() -> None:
    assert parse_yaml("on: 1\n12: 2\nnull: 3\n", "f").data == {"on": 1, "12": 2, "null": 3}


@pytest.mark.parametrize(
    ("text", "says", "line", "key"),
    [
        ('{"a": 1,\n "b": 2,\n "a": 3}', "is given twice", 3, "a"),
        ('{"a": {"b": 1,\n "b": 1}}', "is given twice", 2, "a.b"),
        ('{"a": NaN}', "NaN is not a JSON number", None, None),
        ('{"a": -Infinity}', "-Infinity is not a JSON number", None, None),
        ('{"a":\n 1e999}', "is not a finite number", 1, "a"),
        ('{"a": 1,\n}', "is not valid JSON", 1, None),
        ("[1]", "must be an object", None, None),
        ('{"a": ' + "9" * 5000 + "}", "is not valid JSON", None, None),
    ],
)
def test_json_is_read_strictly(text: str, says: str, line: int | None, key: str | None) -> None:
    error = refusal(".json", text)
    assert says in error.message
    assert (error.line, error.key) == (line, key)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = \n", 2),
        ("a = 1\na = 2\n", 2),
        ("[a]\nb = 1\n[a]\n", 3),
        ('a = "open\n', 1),
        ("a = nope\n", 1),
    ],
)
def test_broken_toml_is_refused_with_its_line(text: str, line: int) -> None:
    error = refusal(".toml", text)
    assert "is not valid TOML" in error.message
    assert error.line == line


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"a":' * 40 + "1" + "}" * 40),
        (".json", "[" * 500_000),
        (".yml", "a: " + "[" * 500_000),
        (".yml", "\n".join(" " * depth + "a:" for depth in range(40))),
        (".toml", "a = " + "[" * 500_000),
        (".toml", ".".join("a" * 400_000) + " = 1"),
        (".toml", "[" + ".".join("a" * 400_000) + "]"),
        (".toml", "a = {" + ".".join("a" * 40) + " = 1}"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else value,
)
def test_deep_nesting_is_refused_before_anything_recurses_into_it(suffix: str, text: str) -> None:
    assert "is nested deeper than" in refusal(suffix, text).message


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"' + '\\"' * 400_000),
        (".toml", 'a = "' + '\\"' * 400_000),
        (".toml", 'a = """' + '\\""' * 300_000),
        (".yml", 'a: "' + '\\"' * 400_000),
    ],
    ids=["json", "toml", "toml lines", "yaml"],
)
def test_an_unclosed_string_is_refused(suffix: str, text: str) -> None:
    assert "is not valid" in refusal(suffix, text).message


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"a": [' + "1," * MAX_NODES + "1]}"),
        (".yml", "a: [" + "1," * MAX_NODES + "1]"),
        (".toml", "a = [" + "1," * MAX_NODES + "1]"),
    ],
)
def test_more_nodes_than_the_limit_are_refused(suffix: str, text: str) -> None:
    assert f"holds more than {MAX_NODES} values" in refusal(suffix, text).message


@pytest.mark.parametrize("suffix", PARSERS)
def test_nesting_up_to_the_limit_is_read(suffix: str) -> None:
    lists = MAX_DEPTH - 1
    text = {
        ".yml": "a: " + "[" * lists + "]" * lists,
        ".json": '{"a": ' + "[" * lists + "]" * lists + "}",
        ".toml": "a = " + "[" * lists + "]" * lists,
    }[suffix]
    document = PARSERS[suffix](text, "f")
    bounded(document, "f")
    assert list(document.data) == ["a"]


def test_a_file_over_the_size_limit_is_refused_unparsed(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="is larger than 1048576 bytes"):
        read_document(path)


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "app.yml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8") as caught:
        read_document(path)
    assert caught.value.line == 2


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_document(path).data == {"a": 1}


@pytest.mark.parametrize("name", ["absent.toml", "settings.ini", "noformat", "a\0b.toml"])
def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, name: str) -> None:
    if name == "settings.ini":
        (tmp_path / name).write_text("[a]")
    with pytest.raises(ConfigurationError) as caught:
        read_document(tmp_path / name)
    assert caught.value.file == str(tmp_path / name)
    assert caught.value.hint


def test_a_device_is_not_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        read_document(tmp_path / "zero.json")


def test_toml_dates_become_text() -> None:
    document = parse_toml("day = 2024-01-02\nat = 2024-01-02T03:04:05Z\ntime = 03:04:05\n", "f")
    bounded(document, "f")
    assert document.data == {"day": "2024-01-02", "at": "2024-01-02T03:04:05+00:00", "time": "03:04:05"}


YAML = "a:\n  b: 1\n  'c d':\n    - x\n    - {e: 1,\n       f: 2}\n"
JSON = '{\n "a": {"b": 1,\n  "c d": ["x",\n {"e": 1,\n "f": 2}]}}'
TOML = """\
# comment with "quotes" and [brackets]
top = '''
[not.a.table]
'''
[a]
b = 1 # = 2
"c d" = [ "x",
  { e = 1 },
]
one.two = {three = 3, four = {five = 5}}

[[a.list]]
x = 1
[[a.list]]
x = 2
  [a.list.inner]
  y = \"\"\"text " with "" quotes\"\"\"
"""


@pytest.mark.parametrize(
    ("suffix", "text", "lines"),
    [
        (
            ".yml",
            YAML,
            {("a",): 1, ("a", "b"): 2, ("a", "c d", 0): 4, ("a", "c d", 1, "e"): 5, ("a", "c d", 1, "f"): 6},
        ),
        (
            ".json",
            JSON,
            {("a",): 2, ("a", "b"): 2, ("a", "c d", 0): 3, ("a", "c d", 1, "e"): 4, ("a", "c d", 1, "f"): 5},
        ),
        (
            ".toml",
            TOML,
            {
                ("top",): 2,
                ("a",): 5,
                ("a", "b"): 6,
                ("a", "c d"): 7,
                ("a", "c d", 1): None,  # a value over several lines: which one is not known for certain
                ("a", "one", "two", "four", "five"): 10,
                ("a", "list", 0, "x"): 13,
                ("a", "list", 1): 14,
                ("a", "list", 1, "x"): 15,
                ("a", "list", 1, "inner", "y"): 17,
                ("absent",): None,
            },
        ),
    ],
    ids=list(PARSERS),
)
def test_a_line_is_exact_or_not_told(suffix: str, text: str, lines: dict[tuple[str | int, ...], int | None]) -> None:
    document = PARSERS[suffix](text, "f")
    assert {path: document.line(path) for path in lines} == lines


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".yml", f"password: {CANARY}\nb: [\n"),
        (".yml", f'password: "{CANARY}\\q"\n'),
        (".json", f'{{"password": "{CANARY}", }}'),
        (".toml", f'password = "{CANARY}"\npassword = "{CANARY}"\n'),
    ],
)
def test_a_syntax_error_carries_no_text_of_the_file(suffix: str, text: str) -> None:
    error = refusal(suffix, text)
    assert CANARY not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
