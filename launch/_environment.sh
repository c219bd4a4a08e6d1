# Sourced by quickstart.sh and test.sh: makes the virtual environment once and again only when setup.py changes.
# usage: prepare_environment EXTRA   (EXTRA is "" or "[test]"); sets PYTHON to the environment's interpreter.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${ATNAS_VENV:-$ROOT/.venv}"
case "$VENV" in /*) ;; *) VENV="$PWD/$VENV" ;; esac

fail() {
    echo "atnas_jax: $*" >&2
    exit 2
}

usable() { # PYTHON: is it new enough?
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if usable "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_environment() {
    local base
    if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
        fail "$VENV exists and is no virtual environment; give another folder, ATNAS_VENV=FOLDER"
    fi
    base="$(find_python)" || fail "needs Python 3.11 or newer; python3 here is: $(python3 --version 2>&1 || true)"
    echo "atnas_jax: making $VENV with $("$base" --version)"
    "$base" -m venv "$VENV" >/dev/null 2>&1 ||
        fail "$base cannot make a virtual environment; install its venv module (Debian: apt-get install python3-venv)"
}

prepare_environment() {
    local extra="$1" stamp wanted
    PYTHON="$VENV/bin/python"
    "$PYTHON" -c 'import pip' >/dev/null 2>&1 || make_environment
    usable "$PYTHON" || fail "needs Python 3.11 or newer; $VENV has $("$PYTHON" --version 2>&1)"
    stamp="$VENV/.atnas_jax$extra"
    wanted="$(cat "$ROOT/setup.py" "$ROOT/pyproject.toml" | cksum) $ROOT"
    if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
        echo "atnas_jax: installing into $VENV (about a minute, once)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -e "$ROOT$extra" ||
            fail "pip could not install; its message is above"
        echo "$wanted" >"$stamp"
    fi
}
