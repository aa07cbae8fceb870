"""The control socket: one place for server and client, 0600, one listener."""

import os
import socket
import stat
from pathlib import Path

import pytest

from oneiric.core.errors import ConfigurationError, InactiveError, LifecycleError
from oneiric.runtime.control import ControlClient, control_socket_path, listen_on_control_socket


def test_it_lies_in_the_state_directory(tmp_path: Path) -> None:
    assert control_socket_path(tmp_path) == tmp_path / "control.sock"


@pytest.mark.xdist_group("control-socket")
def test_a_path_too_long_for_a_socket_falls_back_to_the_same_short_one_for_everybody(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 120)
    long.mkdir()
    (tmp_path / "link").symlink_to(long)
    path = control_socket_path(long)

    assert path == control_socket_path(tmp_path / "link")
    assert path != control_socket_path(tmp_path / ("b" * 120))
    with listen_on_control_socket(path) as listening:
        assert path.is_socket()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert listening.getsockname()
    path.unlink()


def test_the_longest_path_that_fits_is_used(tmp_path: Path) -> None:
    longest = 103 if os.uname().sysname == "Darwin" else 107
    home = tmp_path / ("x" * (longest - len(str(tmp_path)) - len("//control.sock")))
    path = control_socket_path(home)

    assert path == home / "control.sock"
    with listen_on_control_socket(path):
        assert path.is_socket()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_its_owner_may_connect(tmp_path: Path, umask: int) -> None:
    path = control_socket_path(tmp_path / "state")
    before = os.umask(umask)
    try:
        with listen_on_control_socket(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert [each.name for each in path.parent.iterdir()] == ["control.sock"]


def test_a_socket_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = control_socket_path(tmp_path)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    stale = path.stat().st_ino
    with listen_on_control_socket(path):
        assert path.stat().st_ino != stale


def test_a_socket_somebody_listens_on_is_refused(tmp_path: Path) -> None:
    path = control_socket_path(tmp_path)
    with listen_on_control_socket(path):
        with pytest.raises(LifecycleError, match="another process listens"):
            listen_on_control_socket(path)
        assert path.is_socket()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = control_socket_path(tmp_path)
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="is no socket"):
        listen_on_control_socket(path)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        listen_on_control_socket(tmp_path / "file" / "control.sock")


@pytest.mark.parametrize("stale", [True, False])
def test_nobody_listening_is_inactive(tmp_path: Path, stale: bool) -> None:
    path = control_socket_path(tmp_path)
    if stale:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
    with pytest.raises(InactiveError, match="nobody listens") as caught:
        ControlClient(path).call("status")
    assert caught.value.exit_code == 6
    assert caught.value.hint == "oneiric orchestrate"


@pytest.mark.xdist_group("control-socket")
def test_a_short_directory_that_others_can_write_to_is_trusted_by_nobody(tmp_path: Path) -> None:
    path = control_socket_path(tmp_path / ("a" * 120))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o755)
    try:
        with pytest.raises(ConfigurationError, match="is not a directory of this user alone"):
            listen_on_control_socket(path)
        with pytest.raises(ConfigurationError, match="is not a directory of this user alone"):
            ControlClient(path).call("status")
    finally:
        path.parent.chmod(0o700)
