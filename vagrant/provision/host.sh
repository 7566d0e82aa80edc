#!/bin/sh
# Starts the agent, and this host's sample machines.
# ADDRESS: of this host on the underlay. CONTROL: that of control. MACHINES: NETWORK/NAME…
set -eu
mkdir -p /etc/netagent
cat >/etc/netagent/agent.toml <<END
name = "$(hostname)"
control = "$CONTROL:7400"
endpoint = "$ADDRESS:51820"
END
install -m 755 /tmp/netagent-guest/machine /tmp/netagent-guest/answer /usr/local/sbin/
install -m 644 /tmp/netagent-guest/machine@.service /etc/systemd/system/
rm -r /tmp/netagent-guest
echo "NETAGENT_CONTROL=$CONTROL:7400" >/etc/netagent/machine.env
netagent systemd install agent
systemctl --quiet enable netagent-agent
systemctl restart netagent-agent
echo "the agent runs"

# Hosts may come up before control does.
export NETAGENT_CONTROL="$CONTROL:7400"
for machine in $MACHINES; do
  tries=0
  until netagent machine get "$machine" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ]; then
      netagent machine get "$machine" || true
      echo "error: control has no machine $machine; is it up? vagrant provision $(hostname), then" >&2
      exit 1
    fi
    sleep 3
  done
  machine up "$machine"
  if ! netagent machine get "$machine" --output json | grep -q '"host": "'; then
    netagent move "$machine" --to "$(hostname)"
  fi
done
