#!/bin/sh
# Starts tritonserver as `conch serve` starts the embedded one; further arguments are passed on.
# Generated from server/conch_server/_arguments.py by `make docs`.
set -eu
export ORT_DISABLE_TELEMETRY="${ORT_DISABLE_TELEMETRY:-1}" MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
# Protocols that reach memory and files need a key: the one with which the gateway loads and unloads models, or a random
# one that nobody knows, new at every start.
if [ -n "${CONCH_TRITON_ADMIN_KEY:-}" ]; then
  set -- --model-control-mode=explicit \
    "--grpc-restricted-protocol=shared-memory,trace,logging,model-repository:conch-admin=$CONCH_TRITON_ADMIN_KEY" "$@"
else
  key=$(cat /proc/sys/kernel/random/uuid)
  set -- --model-control-mode=none \
    "--grpc-restricted-protocol=shared-memory,trace,logging:conch-admin=$key" "$@"
fi
exec tritonserver \
  --model-repository="${CONCH_MODEL_REPOSITORY:-/models}" \
  --disable-auto-complete-config \
  --rate-limit=execution_count \
  --model-load-thread-count=4 \
  --exit-timeout-secs=30 \
  --log-format=ISO8601 \
  --allow-http=false \
  --grpc-address=0.0.0.0 \
  --grpc-port=8001 \
  --metrics-address=0.0.0.0 \
  --metrics-port=8002 \
  --allow-gpu-metrics=false \
  "$@"
