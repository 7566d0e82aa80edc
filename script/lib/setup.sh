# Sets up what netagent needs on Debian 12, once: packages, virtual environment, stubs, BPF objects.
# Sourced by the scripts beside it. Says what it does; a second run finds everything and is quick.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$PROJECT/.venv
PYTHON=$VENV/bin/python

PACKAGES="python3-venv clang clang-format libbpf-dev libbpf1 bpftool wireguard-tools iproute2 iperf3 \
tcpdump iputils-ping procps util-linux ethtool nftables"

# For the guest that migrates live.
GUEST_PACKAGES="qemu-system-x86 busybox-static cpio"

# For the lab of virtual machines; its image is built when it is first used.
VM_PACKAGES="$GUEST_PACKAGES qemu-utils mmdebstrap e2fsprogs openssh-client"

# For hosts that Vagrant makes.
VAGRANT_PACKAGES="vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients dnsmasq-base"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || fail "needs root: BPF, namespaces and WireGuard; try sudo $0"; }

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$LOG" 2>&1 \
    || { tail -n 20 "$LOG" >&2; fail "apt-get could not install: $*"; }
}

is_installed() { dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

# The release in Debian 12 handles one packet per system call and drops bursts; the one in Debian 13 is four
# times as fast and installs on Debian 12 alone. Its suite is pinned to this one package.
add_trixie_for_wireguard_go() {
  local sources=/etc/apt/sources.list.d uri
  # shellcheck disable=SC2016  # apt's variables, not ours
  uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
    | awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
  [ -n "$uri" ] || return 1
  cat >$sources/netagent-trixie.sources <<EOF
Types: deb
URIs: $uri
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
  cat >/etc/apt/preferences.d/netagent-trixie <<EOF
Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: wireguard-go
Pin: release n=trixie
Pin-Priority: 900
EOF
}

update_package_lists() {
  apt-get update -qq >"$LOG" 2>&1 || { tail -n 5 "$LOG" >&2; fail "apt-get update failed"; }
}

setup_packages() {
  local missing=() package
  for package in $PACKAGES; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && is_installed wireguard-go && return
  need_root
  say "installing Debian packages: ${missing[*]} wireguard-go"
  update_package_lists
  if ! is_installed wireguard-go; then
    if add_trixie_for_wireguard_go; then
      update_package_lists
    else
      say "no Debian 12 archive in apt's sources: taking the wireguard-go that there is"
    fi
    missing+=(wireguard-go)
  fi
  apt_install "${missing[@]}"
}

# setup_extra_packages PACKAGE…: what not every run needs.
setup_extra_packages() {
  local missing=() package
  for package in "$@"; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return
  need_root
  say "installing Debian packages: ${missing[*]}"
  LOG=$(mktemp)
  update_package_lists
  apt_install "${missing[@]}"
  rm -f "$LOG"
}

# Everything that the virtual environment and what is generated depend on.
inputs_hash() {
  cd "$PROJECT" && find pyproject.toml hatch_build.py proto bpf -type f -print0 | sort -z \
    | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

setup_python() {
  local hash; hash=$(inputs_hash)
  [ "$(cat "$VENV/netagent-inputs" 2>/dev/null)" = "$hash" ] && return
  say "making the virtual environment, gRPC stubs and BPF objects"
  [ -x "$PYTHON" ] || /usr/bin/python3 -m venv "$VENV"
  local build
  build=$(sed -n 's/^requires = \[\(.*\)\]/\1/p' "$PROJECT/pyproject.toml" | tr -d '",')
  # shellcheck disable=SC2086  # words on purpose
  "$VENV/bin/pip" install -q $build editables >"$LOG" 2>&1 || { tail -n 20 "$LOG" >&2; fail "pip failed"; }
  (cd "$PROJECT" && "$VENV/bin/pip" install -q --no-build-isolation -e '.[dev]') >"$LOG" 2>&1 \
    || { tail -n 20 "$LOG" >&2; fail "pip could not install the project"; }
  echo "$hash" >"$VENV/netagent-inputs"
}

setup() {
  LOG=$(mktemp); trap 'rm -f "$LOG"' EXIT
  setup_packages
  setup_python
  rm -f "$LOG"; trap - EXIT
}
