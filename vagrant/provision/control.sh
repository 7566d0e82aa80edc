#!/bin/sh
# Starts control, and makes the sample networks and policies.
# ADDRESS: of this machine on the underlay. SAMPLES: yes or no. DRIVER: kvm or qemu.
set -eu
mkdir -p /etc/netagent
# Certificates are not there yet: whoever is on the underlay may do everything.
cat >/etc/netagent/control.toml <<END
listen = "unix:///run/netagent/control.sock,$ADDRESS:7400"
insecure = true
END
# In software emulation hosts take seconds for what is asked of them in a move.
if [ "$DRIVER" = qemu ]; then
  printf 'prepare_bound_s = 15.0\nhead_start_s = 5.0\nsettle_bound_s = 20.0\n' >>/etc/netagent/control.toml
fi
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
for network in shop ops; do
  # It warns that rules match nobody: the machines come with the hosts.
  said=$(netagent policy apply "/etc/netagent/policies/$network.yaml" 2>&1) || { echo "$said" >&2; exit 1; }
  echo "the policy of $network is in force"
done
