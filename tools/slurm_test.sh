#!/usr/bin/env bash
# Evaluate under Slurm, one task for each GPU:
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086  (SRUN_ARGS is a list of words)
exec srun --partition "$partition" --job-name "$job" --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/test.py" "$config" "$checkpoint" --launcher slurm "$@"
