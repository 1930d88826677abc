#!/usr/bin/env bash
# Several real processes on this machine, which train as one:
#
#     bash launch/local.sh N -- python -m dpconv_jax.main --config=configs/dpconv.py --workdir=DIR
#
# Process 0 writes and prints; the others print their errors only. SIGTERM and SIGINT reach all. Where one fails, the
# others are stopped, and its exit code is this script's: 42 means stopped by a signal, the same command goes on.
set -euo pipefail

usage() {
  echo "error: bash launch/local.sh N -- COMMAND..., N at least 1" >&2
  exit 2
}
[[ ${1:-} =~ ^[1-9][0-9]*$ && ${2:-} == "--" && $# -ge 3 ]] || usage
NUM_PROCESSES=$1
shift 2

# A port that nobody listens on now.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export NUM_PROCESSES COORDINATOR_ADDRESS=127.0.0.1:$port

pids=()
for ((id = 0; id < NUM_PROCESSES; id++)); do
  PROCESS_ID=$id "$@" &
  pids+=($!)
done

tell() { kill -s "$1" "${pids[@]}" 2>/dev/null || true; }
trap 'tell TERM' TERM
trap 'tell INT' INT

code=0
left=("${pids[@]}")
while ((${#left[@]})); do
  sleep 0.2 & # not `wait -n`, which misses one of two that end at once
  wait $! || true
  running=()
  for pid in "${left[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      running+=("$pid")
      continue
    fi
    status=0
    wait "$pid" || status=$?
    if ((status != 0 && code == 0)); then
      code=$status
      if ((status != 42)); then # 42 comes from all of them
        echo "a process ended with exit code $status: stopping the others" >&2
        tell KILL
      fi
    fi
  done
  left=("${running[@]}")
done
exit "$code"
