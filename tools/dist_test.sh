#!/usr/bin/env bash
# Evaluate with several processes on this machine, one for each GPU (or CPU process where there is no GPU):
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR (the first machine's) and PORT set.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
config=$1 checkpoint=$2 processes=$3
shift 3
exec "${PYTHON:-python}" "$here/launch.py" \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$processes" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
