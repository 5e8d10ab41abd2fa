# Packages of the system, for what no wheel has. Sourced by scripts/dev-cluster and scripts/test.
# shellcheck shell=bash

can_install() { ((EUID == 0)) && command -v apt-get >/dev/null; }

install_packages() {
  # RUNLEVEL=1: what is installed shall not start as a service of the system.
  {
    apt-get -qq update &&
      RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@"
  } >&2 </dev/null
}
