#!/bin/sh
# Starts control, and makes the sample networks, machines and policies.
# ADDRESS: of this machine on the underlay. SAMPLES: yes or no.
set -eu
mkdir -p /etc/netagent
# Certificates are not there yet: whoever is on the underlay may do everything.
cat >/etc/netagent/control.toml <<END
listen = "unix:///run/netagent/control.sock,$ADDRESS:7400"
insecure = true
END
netagent systemd install control
systemctl --quiet enable netagent-control
systemctl restart netagent-control
echo "control serves"
rm -rf /etc/netagent/policies
mv /tmp/netagent-guest/policies /etc/netagent/policies
[ "$SAMPLES" = yes ] || exit 0

# make KIND NAME OPTION…: what is there already stays as it is.
make() {
  kind=$1 name=$2
  shift 2
  netagent "$kind" get "$name" >/dev/null 2>&1 || netagent "$kind" create "$name" "$@" >/dev/null
}
make network shop
make network ops
make machine shop/web-1 --label app=web
make machine shop/web-2 --label app=web
make machine shop/db-1 --label app=db
make machine ops/prom-1 --label app=prometheus
netagent policy apply /etc/netagent/policies/shop.yaml
netagent policy apply /etc/netagent/policies/ops.yaml
