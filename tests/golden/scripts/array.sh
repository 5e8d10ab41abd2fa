#!/bin/bash
# x.sweep, written by hpcflow 0.1.0. It is queued as it stands here.
#SBATCH --job-name=x.sweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:10:00
#SBATCH --output=jobs/sweep/scheduler.log
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
#SBATCH --kill-on-invalid-dep=yes

# shellcheck disable=SC2016 # a dollar sign in single quotes is meant to stay one
set -euo pipefail

# --- Names. Queue this in the run directory: sbatch jobs/sweep/script.sh
export HPCFLOW_RUN="${SLURM_SUBMIT_DIR:-$PWD}"
export HPCFLOW_JOB=sweep
export HPCFLOW_JOB_DIR="$HPCFLOW_RUN"/jobs/sweep
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

# --- Launch. In the background, so that a signal is seen while the ranks run.
python trial.py &
child=$!
code=0
wait "$child" || code=$?
# A signal ends `wait` early; the ranks' own end is what counts.
while kill -0 "$child" 2>/dev/null; do
  code=0
  wait "$child" || code=$?
done
exit "$code"
