#!/bin/sh
# Starts the agent, and this host's sample machines.
# ADDRESS: of this host on the underlay. CONTROL: that of control. MACHINES: NETWORK/NAME:LABEL…
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

# Hosts may come up before control does, and before it has the networks.
export NETAGENT_CONTROL="$CONTROL:7400"
for each in $MACHINES; do
  machine=${each%%:*} tries=0
  while :; do
    code=0
    problem=$(netagent --timeout 60 machine create "$machine" --host "$(hostname)" --label "${each#*:}" 2>&1) || code=$?
    case $code in
      0) break ;;
      5) # it is there already, and may have moved
        netagent machine get "$machine" --output json | grep -q "\"host\": \"$(hostname)\"" || continue 2
        break
        ;;
    esac
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ]; then
      echo "$problem; once that is mended: vagrant provision $(hostname)" >&2
      exit 1
    fi
    sleep 3
  done
  machine up "$machine"
  echo "$machine runs"
done
