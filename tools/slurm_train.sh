#!/usr/bin/env bash
# Train under Slurm, one task for each GPU:
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086  (SRUN_ARGS is a list of words)
exec srun --partition "$partition" --job-name "$job" --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/train.py" "$config" --launcher slurm "$@"
