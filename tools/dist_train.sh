#!/usr/bin/env bash
# Train with several processes on this machine, one for each GPU (or CPU process where there is no GPU):
#   tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR (the first machine's) and PORT set.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
config=$1 processes=$2
shift 2
exec "${PYTHON:-python}" "$here/launch.py" \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$processes" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    "$here/train.py" "$config" --launcher pytorch "$@"
