#!/usr/bin/env bash
# Run the tests: launch/test.sh [pytest arguments]. ATNAS_VENV=folder uses another virtual environment than .venv.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
prepare_environment "[test]"
cd "$ROOT"
exec "$PYTHON" -m pytest -q -n 2 tests "$@"
