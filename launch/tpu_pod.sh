#!/usr/bin/env bash
# Search on a Cloud TPU pod slice: launch/tpu_pod.sh NAME ZONE [flags of launch.search]
# e.g. launch/tpu_pod.sh my-v5e-16 us-west4-a --config=configs/omniglot_5w1s.py --workdir=runs/wide --mesh=tasks:2,population:8
# --config.data.source=npz:PATH, a file that lies at this path on every worker; docs/own_data.md says how to make it.
# Copies this repository to every worker, installs it there and starts one process a worker, which find each other.
# The workdir is on the disk of worker 0 alone; the same command goes on from its last checkpoint.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: launch/tpu_pod.sh NAME ZONE [flags of launch.search]" >&2; exit 2; }
NAME="$1" ZONE="$2"
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ARCHIVE="$(mktemp -t atnas_XXXXXX.tar.gz)"
trap 'rm -f "$ARCHIVE"' EXIT
git archive --format=tar.gz --output="$ARCHIVE" HEAD

gcloud compute tpus tpu-vm scp "$ARCHIVE" "$NAME":atnas_jax.tar.gz --zone="$ZONE" --worker=all
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="
    set -eu
    mkdir -p atnas_jax && tar -xzf atnas_jax.tar.gz -C atnas_jax && cd atnas_jax
    . launch/_environment.sh && prepare_environment '[tpu]'
    exec \"\$PYTHON\" -m launch.search --distributed $(printf '%q ' "$@")"
