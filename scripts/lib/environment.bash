# Makes the environment ROOT/.venv. Sourced by scripts/hpcflow and scripts/test:
#   is_made "$root" || make_environment "$root"
# shellcheck shell=bash

# What the environment is made from. Every start compares them, a short process for each.
made_from=(requirements.lock pyproject.toml workflows/hpcflow/federation/accumulator.c)

# Whether .venv is complete and belongs to these files and this place.
is_made() {
  local made=$1/.venv/.made-from file
  [[ -r $made/root && "$(<"$made/root")" == "$1" && -x $1/.venv/bin/hpcflow ]] || return
  for file in "${made_from[@]}"; do
    cmp -s -- "$1/$file" "$made/${file##*/}" || return
  done
}

# Everything for the eye goes to stderr: stdout belongs to the command that follows.
say() { printf '[%4d s] %s\n' "$SECONDS" "$*" >&2; }
give_up() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 3; }

find_python() {
  local name
  for name in python3.12 python3.11 python3; do
    # A name on the PATH may be a shim without a Python behind it: ask it.
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  give_up "needs Python 3.11 or 3.12 (TensorFlow 2.18 has no other) and found $(python3 --version 2>&1 ||
    true). Install one, or load your site's Python module, and start again."
}

# Runs one step with its output in the log; shows the end of the log if the step fails.
logged() {
  printf '\n$ %s\n' "$*" >>"$log"
  "$@" >>"$log" 2>&1 </dev/null && return
  printf -- '--- the end of %s:\n' "$log" >&2
  tail -n 25 -- "$log" >&2
  give_up "that step failed (the whole log: $log). Start the same command again once the cause is removed."
}

make_environment() {
  local root=$1 venv=$1/.venv
  local made=$venv/.made-from log=$venv/setup.log
  SECONDS=0
  mkdir -p -- "$venv" || give_up "cannot write to $root; hpcflow keeps its environment there, in .venv."

  # One set-up at a time in a checkout. The kernel drops the lock with the process, so nobody can leave it behind.
  exec {lock}>>"$venv/.setup-lock" # not .lock: that one is uv's own
  local refused=0
  flock --nonblock --conflict-exit-code 42 "$lock" 2>/dev/null || refused=$?
  if ((refused == 42)); then
    say "another process is making the environment in $venv; waiting for it"
    flock "$lock"
    if is_made "$root"; then
      exec {lock}>&-
      return
    fi
  elif ((refused)); then
    say "note: no file locks here; do not start hpcflow twice during this first time"
  fi
  # The steps inherit the lock: should this shell be killed, the next one waits until its last step has ended too.
  install_all "$root" "$venv"
  exec {lock}>&-
}

install_all() {
  local root=$1 venv=$2 python
  python=$(find_python)
  command -v g++ >/dev/null || give_up "needs a C++ compiler, to build Horovod: install g++ (Debian, Ubuntu:" \
    "apt-get install g++; Red Hat: dnf install gcc-c++) or load your site's compiler module, and start again."
  "$python" -c 'import ensurepip, venv' 2>/dev/null || give_up "$python has no venv module." \
    "Install it (Debian, Ubuntu: apt-get install python3-venv) or load your site's Python module, and start again."

  # A set-up that was stopped half way may have left half a package behind: begin with nothing then. What was
  # downloaded and compiled is in uv's cache, so this costs seconds.
  if [[ ! -e $made || ! -x $venv/bin/python || "$(cat -- "$made/root" 2>/dev/null)" != "$root" ]]; then
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .setup-lock -exec rm -rf -- {} +
  fi
  rm -rf -- "$made"
  : >"$log"
  say "making the environment in $venv (once; about 3 minutes, 0.5 GB to download, 2 GB on disk)"

  say "1/4 uv, the installer, and $("$python" --version) from $python"
  if [[ ! -x $venv/bin/python ]]; then
    logged "$python" -m venv --without-pip -- "$venv"
    logged "$python" -m venv -- "$venv/.uv"
  fi
  [[ -x $venv/.uv/bin/uv ]] ||
    logged "$venv/.uv/bin/python" -m pip --disable-pip-version-check install uv==0.13.9

  # Horovod has no wheel: it goes last, so that the long silent step has a line of its own.
  say "2/4 TensorFlow, Open MPI and the other packages of requirements.lock"
  if [[ -z $(find "$venv/lib" -maxdepth 3 -name 'horovod-*.dist-info' -print -quit 2>/dev/null) ]]; then
    awk '/^[a-z]/ { skip = /^horovod==/ } !skip' "$root/requirements.lock" >"$venv/without-horovod.lock"
    pip_with_uv sync --require-hashes "$venv/without-horovod.lock"
    rm -f -- "$venv/without-horovod.lock"
    say "3/4 Horovod, compiled here against that Open MPI (1 to 3 minutes)"
  fi
  pip_with_uv sync --require-hashes "$root/requirements.lock"

  say "4/4 hpcflow itself"
  pip_with_uv install --no-deps --editable "$root"
  logged env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q "$root/workflows"

  # The note of what it was made from goes last and by one rename: it is what says "finished".
  rm -rf -- "$made.new"
  mkdir -- "$made.new"
  cp -- "${made_from[@]/#/$root/}" "$made.new/"
  printf '%s\n' "$root" >"$made.new/root"
  mv -T -- "$made.new" "$made"
  say "done; from now on hpcflow starts at once"
}

# uv pip VERB ... in this environment, from the checkout: pyproject.toml there says how Horovod is built.
pip_with_uv() {
  local jobs verb=$1
  shift
  jobs=$(nproc 2>/dev/null || echo 2)
  ((jobs <= 8)) || jobs=8 # a login node belongs to others too
  # The certificates of the system: many sites reach the index through a proxy with one of its own.
  # Compiled bytecode: importing TensorFlow takes half the time, and where an installation cannot be written to or
  # PYTHONDONTWRITEBYTECODE is set, every start of every rank would compile anew.
  # A compiler flag or a Python path of the caller's does not belong into what is built here.
  logged env -C "$root" -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV -u CFLAGS -u CXXFLAGS \
    HOROVOD_CMAKE="$root/scripts/lib/horovod-cmake" CMAKE_BUILD_PARALLEL_LEVEL="$jobs" \
    UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_COMPILE_BYTECODE=1 \
    "$venv/.uv/bin/uv" pip "$verb" --python "$venv/bin/python" "$@"
}
