#!/bin/sh
# Installs netagent's wheel in /opt/netagent: install.sh WHEEL online|offline.
# Offline: all that it needs is there already, as in the local box.
set -eu
wheel=$1
if [ "$2" = online ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends \
    python3-venv libbpf1 wireguard-tools iproute2 iputils-ping tcpdump bpftool >/dev/null
  [ -x /opt/netagent/bin/pip ] || python3 -m venv /opt/netagent
  /opt/netagent/bin/pip install --quiet --disable-pip-version-check "$wheel"
fi
/opt/netagent/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall "$wheel"
ln -sf /opt/netagent/bin/netagent /usr/local/bin/
rm "$wheel"
echo "$(basename "$wheel") installed"
