#!/usr/bin/env bash
# Run the tests: launch/test.sh [pytest arguments]. ATNAS_VENV=folder uses another virtual environment than .venv.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
prepare_environment "[test]"
cd "$ROOT"
# A file to one process: what its tests share is made once. In this order, which ends with short files.
exec "$PYTHON" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests "$@"
