#!/bin/bash
# federated_unet.r0001-evaluate, written by hpcflow 0.1.0. It is queued as it stands here.
#SBATCH --job-name=federated_unet.r0001-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --output=jobs/r0001-evaluate/scheduler.log
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
#SBATCH --kill-on-invalid-dep=yes

# shellcheck disable=SC2016 # a dollar sign in single quotes is meant to stay one
set -euo pipefail

# --- Names. Queue this in the run directory: sbatch jobs/r0001-evaluate/script.sh
export HPCFLOW_RUN="${SLURM_SUBMIT_DIR:-$PWD}"
export HPCFLOW_JOB=r0001-evaluate
export HPCFLOW_JOB_DIR="$HPCFLOW_RUN"/jobs/r0001-evaluate
if [ ! -d "$HPCFLOW_JOB_DIR" ]; then
  echo "hpcflow: ${SLURMD_NODENAME:-$HOSTNAME} does not see $HPCFLOW_JOB_DIR (storage.runs must be on shared storage)" >&2
  exit 1
fi
# An array longer than Slurm's MaxArraySize is queued in pieces; $1 is the task that this piece begins with.
export HPCFLOW_TASK=$((${SLURM_ARRAY_TASK_ID:-0} + ${1:-0}))
printf -v HPCFLOW_TASK_DIR '%s/%04d' "$HPCFLOW_JOB_DIR" "$HPCFLOW_TASK"
export HPCFLOW_TASK_DIR
mkdir -p "$HPCFLOW_TASK_DIR"
exec >>"$HPCFLOW_TASK_DIR/out.log" 2>&1

# --- The record of this task: what remains when the scheduler has forgotten it. A reader sees a whole
# file or the one before it: written beside, flushed, renamed, and the name flushed too.
started=$(date +%s.%N)
# What an earlier attempt recorded is kept: requeued by Slurm, or queued again by `hpcflow resume`.
attempt=0
while [ -e "$HPCFLOW_TASK_DIR/record.$attempt.json" ]; do attempt=$((attempt + 1)); done
if [ -e "$HPCFLOW_TASK_DIR/record.json" ]; then
  cp -p "$HPCFLOW_TASK_DIR/record.json" "$HPCFLOW_TASK_DIR/record.$attempt.json"
  attempt=$((attempt + 1))
fi
record() { # record ENDED EXIT_CODE SIGNAL CPU, each null where there is none yet
  local new="$HPCFLOW_TASK_DIR/.record.json.$$"
  printf '{"job_id": "%s", "attempt": %d, "host": "%s", "nodes": "%s", "pid": %d, "queued": %s, "started": %s, "ended": %s, "exit_code": %s, "signal": %s, "cpu": %s}\n' \
    "${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-local}}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" \
    "$attempt" "${SLURMD_NODENAME:-$HOSTNAME}" "${SLURM_JOB_NODELIST:-$HOSTNAME}" \
    "$$" "${HPCFLOW_QUEUED:-null}" "$started" "$1" "$2" "$3" "$4" >"$new" &&
    sync "$new" && mv -f "$new" "$HPCFLOW_TASK_DIR/record.json" && sync "$HPCFLOW_TASK_DIR"
}
signal=null
child=
# shellcheck disable=SC2329 # called by the traps below
interrupted() { # interrupted SIGNAL: Slurm warns before the time limit and on scancel; pass it on and say so
  trap '' TERM INT HUP USR1 USR2
  signal="\"$1\""
  record null null "$signal" null || true
  # Before the ranks are launched there is nobody to pass it on to, and they would be launched deaf to it. ($! is the
  # launcher in the moment before its number is in `child`.)
  child=${child:-${!:-}}
  if [ -z "$child" ]; then exit $((128 + $(kill -l "$1"))); fi
  kill -TERM "$child" 2>/dev/null || true
}
# shellcheck disable=SC2329
finish() { # finish EXIT_CODE
  local code=$1 new="$HPCFLOW_TASK_DIR/.times.$$"
  trap '' TERM INT HUP USR1 USR2
  if [ "$code" -gt 128 ] && [ "$signal" = null ]; then signal="\"$(kill -l "$code" 2>/dev/null || echo "$code")\""; fi
  times >"$new" || true
  { read -r _ && read -r cpu; } <"$new" || cpu=
  rm -f "$new"
  record "$(date +%s.%N)" "$code" "$signal" "\"$cpu\"" || echo "hpcflow: the record could not be written" >&2
}
trap 'finish "$?"' EXIT
for name in TERM INT HUP USR1 USR2; do
  # shellcheck disable=SC2064 # the name of the signal is meant now
  trap "interrupted $name" "$name"
done
record null null null null

# --- Environment. What a surrounding job or launcher left would steer ours: an inherited SLURM_CPU_BIND binds
# silently, PMI and Open MPI variables make every rank think that it is rank 0 of 1.
for name in $(compgen -e | grep -E '^(SBATCH_|PMI|PMIX_|PRTE_|OMPI_|HYDRA_|SRUN_|SLURM_(CPU_BIND|MEM_BIND|DISTRIBUTION|HINT|EXACT|THREADS_PER_CORE|EXPORT_ENV|SRUN_|MPI_TYPE))' || true); do
  unset "$name"
done
# What the submitter's shell tells the container runtime would be bound or set in every image.
for name in $(compgen -e | grep -E '^(APPTAINER|SINGULARITY)' | grep -vE '^(APPTAINER|SINGULARITY)_(CACHEDIR|TMPDIR|CONFIGDIR)$' || true); do
  unset "$name"
done
export HPCFLOW_CACHE=runs/.cache
export HPCFLOW_IMAGE=unet.sif
export HPCFLOW_CODE=/code/hpcflow
export HPCFLOW_VIEW="${HPCFLOW_TASK_DIR}/view"
export HPCFLOW_MADE="${HPCFLOW_VIEW}/rounds/0001"
export HPCFLOW_ROUND="${HPCFLOW_RUN}/rounds/0001"
export APPTAINERENV_PYTHONPATH=/opt/hpcflow/code
export APPTAINERENV_PYTHONNOUSERSITE=1
export SINGULARITYENV_PYTHONPATH=/opt/hpcflow/code
export SINGULARITYENV_PYTHONNOUSERSITE=1
export OMP_NUM_THREADS=1
export TF_NUM_INTRAOP_THREADS=1
export TF_NUM_INTEROP_THREADS=1
# The image's runtime, where this node has it, and the folders that the image is given.
HPCFLOW_RUNTIME=$(command -v apptainer || command -v singularity) || {
  echo "hpcflow: apptainer and singularity not found on $HOSTNAME (load its module by environment.modules)" >&2
  exit 1
}
if [ ! -e "$HPCFLOW_IMAGE" ]; then
  echo "hpcflow: $HOSTNAME does not see the image $HPCFLOW_IMAGE (it must be on shared storage)" >&2
  exit 1
fi
# The node's own folder of this job, which is no other path inside.
export HPCFLOW_SCRATCH="${TMPDIR:-/tmp}"

# --- Confinement. hpcflow itself, outside of the image, lays out what this task may see of the run and says whose task
# it is, the folder of its data and that of its own cache.
mapfile -d '' -t told < <(/env/bin/python -m hpcflow.federation enter --cache "$HPCFLOW_CACHE" "$HPCFLOW_RUN" "$HPCFLOW_JOB" \
    "$HPCFLOW_TASK")
wait "$!"
export HPCFLOW_MEMBER="${told[0]}" HPCFLOW_DATA="${told[1]}" HPCFLOW_CACHE="${told[2]}"
if [ "$signal" != null ]; then exit 143; fi

# --- Launch. In the background, so that a signal is seen while the ranks run.
env -u OPAL_PREFIX -u PMIX_INSTALL_PREFIX "$HPCFLOW_JOB_DIR"/container.sh "$HPCFLOW_RUNTIME" \
    --quiet exec --no-eval --cleanenv --containall --no-home --no-privs \
    --no-mount hostfs,bind-paths --mount \
    "type=bind,\"source=${HPCFLOW_DATA//\"/\"\"}\",\"destination=${HPCFLOW_DATA//\"/\"\"}\",ro" \
    --mount "type=bind,\"source=${HPCFLOW_VIEW//\"/\"\"}\",\"destination=${HPCFLOW_RUN//\"/\"\"}\",ro" \
    --mount "type=bind,\"source=${HPCFLOW_MADE//\"/\"\"}\",\"destination=${HPCFLOW_ROUND//\"/\"\"}\"" \
    --mount "type=bind,\"source=${HPCFLOW_CACHE//\"/\"\"}\",\"destination=${HPCFLOW_CACHE//\"/\"\"}\"" \
    --mount "type=bind,\"source=${HPCFLOW_CODE//\"/\"\"}\",\"destination=/opt/hpcflow/code/hpcflow\",ro" \
    "$HPCFLOW_IMAGE" python3 -m hpcflow.federation evaluate --confined --name "$HPCFLOW_MEMBER" \
    --data "$HPCFLOW_DATA" --cache "$HPCFLOW_CACHE" "$HPCFLOW_RUN" "$HPCFLOW_JOB" "$HPCFLOW_TASK" &
child=$!
code=0
wait "$child" || code=$?
# A signal ends `wait` early; the ranks' own end is what counts.
while kill -0 "$child" 2>/dev/null; do
  code=0
  wait "$child" || code=$?
done
# However it ended: what it has made is taken over outside of the image.
/env/bin/python -m hpcflow.federation leave --cache "$HPCFLOW_CACHE" "$HPCFLOW_RUN" "$HPCFLOW_JOB" \
    "$HPCFLOW_TASK" || { failed=$?; [ "$code" -ne 0 ] || code=$failed; }
exit "$code"
