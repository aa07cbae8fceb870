"""Importing the package costs nothing that was not asked for."""

import subprocess
import sys


def test_importing_the_package_loads_no_sdk() -> None:
    code = "import oneiric.remote, sys; print([name for name in ('httpcore', 'nacl') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
