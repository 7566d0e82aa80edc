#!/bin/sh
# Starts control, and makes the sample networks and policies.
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

for network in shop ops; do # hosts make their machines themselves
  netagent network get "$network" >/dev/null 2>&1 || netagent network create "$network" >/dev/null
done
netagent policy apply /etc/netagent/policies/shop.yaml
netagent policy apply /etc/netagent/policies/ops.yaml
