#!/usr/bin/env bash
# Search on several nodes of a Slurm cluster: sbatch launch/slurm.sh [flags of launch.search]
# e.g. sbatch --nodes=4 launch/slurm.sh --config=configs/omniglot_5w1s.py --workdir=runs/wide --mesh=tasks:2,population:8
# --config.data.source=npz:PATH, a file that every node can read; docs/own_data.md says how to make it.
# One task per GPU, as jax takes them from Slurm; on CPU nodes: ATNAS_EXTRA= sbatch --gpus-per-task=0
# --ntasks-per-node=1 launch/slurm.sh ...
# Only task 0 touches the workdir. Two minutes before the time limit each task gets SIGTERM: submit the same again to go on.
# A preempted job is queued again by itself.
#SBATCH --job-name=atnas
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?submit this from the root of the repository: sbatch launch/slurm.sh}"
source launch/_environment.sh
prepare_environment "${ATNAS_EXTRA-[cuda]}" # on the first node, for all: the repository must be on a shared disk
exec srun --kill-on-bad-exit=1 --label "$PYTHON" -m launch.search --distributed "$@"
