#!/usr/bin/env bash
# From a bare clone to a searched and tested network: launch/quickstart.sh [--config.train.steps=500 ...]
# ATNAS_VENV=folder uses another virtual environment than .venv. Stopped half-way, the same command goes on.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
prepare_environment ""
cd "$ROOT"
exec "$PYTHON" -m launch.search --config=configs/quickstart.py --workdir=runs/quickstart "$@"
