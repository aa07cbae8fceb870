"""Keys and the files they are kept in."""

from __future__ import annotations

import base64
import copy
import os
import pickle
from pathlib import Path

import pytest

from oneiric.core.errors import ConfigurationError, SignatureError
from oneiric.remote.keys import PublicKey, SigningKey, keygen, trusted_keys

SEED = bytes(range(32))


def test_keygen_writes_a_private_file_and_a_public_one(tmp_path: Path) -> None:
    public = keygen(tmp_path / "root.key")

    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    assert PublicKey.from_base64((tmp_path / "root.key.pub").read_text().strip()) == public
    assert SigningKey.read(tmp_path / "root.key").public == public


def test_keygen_writes_0600_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keygen(tmp_path / "key")
    finally:
        os.umask(before)

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("existing", ["key", "key.pub"])
def test_keygen_never_overwrites(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")

    with pytest.raises(ConfigurationError, match="never overwritten"):
        keygen(tmp_path / "key")

    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_keygen_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="never overwritten"):
        keygen(tmp_path / "key")

    assert not (tmp_path / "elsewhere").exists()


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        SigningKey.read(tmp_path / "key")


@pytest.mark.parametrize(
    "content",
    [
        SEED,
        base64.b64encode(SEED),
        base64.b64encode(SEED) + b"\n",
        b"-----BEGIN PRIVATE KEY-----\n"
        + base64.b64encode(bytes.fromhex("302e020100300506032b657004220420") + SEED)
        + b"\n-----END PRIVATE KEY-----\n",
    ],
    ids=["raw", "base64", "line", "pem"],
)
def test_a_key_may_be_raw_base64_or_pem(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)

    assert SigningKey.read(path).public == SigningKey(SEED).public


@pytest.mark.parametrize("content", [b"", b"hello", base64.b64encode(SEED[:31]), SEED + b"!"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError, match="no private key"):
        SigningKey.read(path)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "pipe"):
        with pytest.raises(ConfigurationError):
            SigningKey.read(path)


def test_a_private_key_does_not_leave_by_accident() -> None:
    key = SigningKey(SEED)

    for shown in (repr(key), str(key), f"{key}"):
        assert base64.b64encode(SEED).decode() not in shown
        assert SEED.hex() not in shown
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(key)
    with pytest.raises(TypeError, match="copy"):
        copy.copy(key)


def test_two_keys_are_the_same_when_their_bytes_are() -> None:
    one, again = SigningKey(SEED).public, SigningKey(SEED).public

    assert one == again
    assert len({one, again}) == 1
    assert one.key_id == again.key_id != SigningKey.generate().public.key_id


def test_trusted_keys_are_read_from_the_environment_each_once() -> None:
    one, two = SigningKey.generate().public, SigningKey.generate().public
    environ = {"ONEIRIC_TRUSTED_PUBLIC_KEYS": f" {one.base64}, {two.base64},{one.base64} ,"}

    assert trusted_keys(environ) == (one, two)
    assert trusted_keys({}) == trusted_keys({"ONEIRIC_TRUSTED_PUBLIC_KEYS": ""}) == ()


@pytest.mark.parametrize(
    "entry",
    [
        "hello",
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(SEED[:31]).decode(),
        base64.b64encode(b"\x01" + bytes(31)).decode(),
        "é" * 44,
    ],
)
def test_a_trusted_key_that_is_none_is_an_error_and_not_skipped(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="ONEIRIC_TRUSTED_PUBLIC_KEYS"):
        trusted_keys({"ONEIRIC_TRUSTED_PUBLIC_KEYS": f"{SigningKey.generate().public.base64},{entry}"})


def test_base64_with_bits_to_spare_is_no_key() -> None:
    text = SigningKey(SEED).public.base64
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = text[:-2] + alphabet[alphabet.index(text[-2]) + 1] + "="

    with pytest.raises(SignatureError, match="base64"):
        PublicKey.from_base64(spare)
