# Sourced by the scripts beside it. Finds or makes what they stand on, and downloads only what is missing:
#   ROOT        this checkout
#   UV          a uv that runs
#   UV_PYTHON   an interpreter of the version in .python-version (one that is already set is taken as it is)
# POSIX sh. It writes nothing outside the checkout but uv's own stores, and installs no system package.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
WANTED=$(tr -d '[:space:]' <"$ROOT/.python-version")
OWN_UV=$ROOT/.venv-uv
UV_AT_LEAST='0 7' # an older one, such as a distribution may ship, does not know the flags used here
unset VIRTUAL_ENV # an activated environment is somebody else's: uv would only warn about it

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# The first line of standard input that passes the given test.
first() {
    while IFS= read -r candidate; do
        if "$1" "$candidate" </dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# Every executable of that name on PATH: a shim that fails may stand before one that works.
on_path() (
    IFS=:
    for directory in $PATH; do
        if [ -x "$directory/$1" ]; then printf '%s\n' "$directory/$1"; fi
    done
)

# Every python3 to be found here, the wanted version first.
pythons() {
    on_path "python$WANTED"
    on_path python3
    for home in "${PYENV_ROOT:-$HOME/.pyenv}" "$HOME/.pyenv"; do
        for found in "$home"/versions/"$WANTED"*/bin/python3 "$home"/versions/3.*/bin/python3; do
            if [ -x "$found" ]; then printf '%s\n' "$found"; fi
        done
    done
    on_path python
}

python_is_wanted() {
    "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$WANTED" 2>/dev/null
}

find_python() {
    found=$(pythons | first python_is_wanted) ||
        found=$([ -n "$UV" ] && "$UV" python find --no-python-downloads "$WANTED" 2>/dev/null) || return 1
    "$found" -c 'import sys; print(sys.executable)' # behind the shim, which works in some directories only
}

uv_is_usable() {
    [ -x "$1" ] && answer=$("$1" --version 2>/dev/null) || return 1
    printf '%s\n' "$answer" | awk -v least="$UV_AT_LEAST" '{
        split($2, have, "."); split(least, want, " ")
        exit !(have[1] > want[1] || (have[1] == want[1] && have[2] >= want[2]))
    }'
}

uv_of_each_python() {
    pythons | while IFS= read -r python; do
        "$python" -c 'from uv import find_uv_bin; print(find_uv_bin())' 2>/dev/null </dev/null || :
    done
}

find_uv() {
    {
        on_path uv
        printf '%s\n' "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv" "$OWN_UV/bin/uv" \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/uv
    } | first uv_is_usable || uv_of_each_python | first uv_is_usable
}

# In an environment of its own, which works also where pip may not touch the interpreter's packages.
can_make_uv() {
    "$1" -m venv --clear "$OWN_UV" >/dev/null 2>&1 &&
        "$OWN_UV/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2 &&
        uv_is_usable "$OWN_UV/bin/uv"
}

make_uv() {
    printf 'uv is not here: installing it into %s\n' "$OWN_UV" >&2
    pythons | first can_make_uv >/dev/null && printf '%s\n' "$OWN_UV/bin/uv"
}

install_python() {
    "$UV" python install --quiet "$WANTED" >&2 && "$UV" python find --managed-python "$WANTED"
}

UV=$(cd "$ROOT" && find_uv) || UV=
UV_PYTHON=${UV_PYTHON:-$(cd "$ROOT" && find_python)} || UV_PYTHON=
UV=${UV:-$(cd "$ROOT" && make_uv)} ||
    die "uv is missing and could not be installed: no python3 here can make a virtual environment and reach the package index."
UV_PYTHON=${UV_PYTHON:-$(cd "$ROOT" && install_python)} ||
    die "Python $WANTED is missing and uv could not install it: install it (python.org, pyenv or your system) and run this again."
export UV UV_PYTHON
