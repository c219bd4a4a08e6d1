"""The flags of a command that several processes run together; launch/slurm.sh, tpu_pod.sh and k8s.yaml give them."""

from absl import flags

from atnas_jax.job import processes

_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0; default: $JAX_COORDINATOR_ADDRESS.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many run this; default: $JAX_NUM_PROCESSES.", lower_bound=0)
_PROCESS = flags.DEFINE_integer("process", -1, "The number of this one, from 0; default: $JAX_PROCESS_ID.")
_DETECT = flags.DEFINE_bool("distributed", False, "Find the others by Slurm, a TPU pod, Open MPI or Kubernetes.")


def join() -> None:
    """Join the other processes as the flags say; without any this one is alone."""
    processes.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _DETECT.value)
