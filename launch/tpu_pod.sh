#!/usr/bin/env bash
# The same command on every host of a Cloud TPU slice, which finds its other hosts by itself:
#
#     TPU=NAME ZONE=ZONE bash launch/tpu_pod.sh --config=configs/dpconv.py:deepfashion2 \
#       --config.data.data_dir=/mnt/data/tfds --config.vgg.weights=/mnt/data/vgg16.npz --workdir=/mnt/data/runs/dpconv
#
# Needs gcloud and, on every host, this checkout in ~/dpconv_jax with `pip install ".[tpu]"` done, and a folder that
# all of them see for the workdir, the datasets and the weights (Filestore or a mounted bucket).
set -euo pipefail

if [[ -z ${TPU:-} || -z ${ZONE:-} || $# -eq 0 ]]; then
  echo "error: TPU=NAME ZONE=ZONE bash launch/tpu_pod.sh --config=... --workdir=..." >&2
  exit 2
fi
printf -v words ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd dpconv_jax && exec python3 -m dpconv_jax.main$words"
