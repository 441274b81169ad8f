#!/bin/sh
# balancer.sh NUMBER KEY: a balancer. KEY is the file with the cluster key. The
# first one's configuration has the service; the others learn of it from the
# cluster.
. "$(dirname "$0")/common.sh"

n=$1
key=$2
last=$((10 + n))
address "$FRONT" "$FRONT_NET.$last/24"
address "$BACK" "$BACK_NET.$last/24"
default_route "$FRONT_NET.$ROUTER" "$FRONT"

mkdir -p "$ETC/fairlead"
install -m 0600 "$key" "$ETC/fairlead/cluster.key"
state=$ETC/fairlead/state
[ "$ETC" != /etc ] || state=/var/lib/fairlead

seeds=
for other in $BALANCERS; do
	[ "$other" = "$n" ] || seeds="$seeds${seeds:+, }\"$BACK_NET.$((10 + other))\""
done
cat >"$ETC/fairlead/fairlead.toml" <<END
# Written by balancer.sh. Balancer $n of the lab.
[node]
name = "lb$n"
hash_seed = "the lab's"

[[interface]]
name = "$FRONT"

[[interface]]
name = "$BACK"

[xdp]
pin_path = "${PIN_PATH-/sys/fs/bpf/fairlead}"

[state]
directory = "$state"

[cluster]
key_file = "$ETC/fairlead/cluster.key"
bind = "$BACK_NET.$last"
seeds = [$seeds]

[tunnel]
source_ipv4 = "$BACK_NET.$last"

[bgp]
asn = 65010
router_id = "$FRONT_NET.$last"
connect_retry = "2s"

[[bgp.peer]]
address = "$FRONT_NET.$ROUTER"
asn = 65000

[bgp.peer.bfd]
enabled = true
interval = "100ms"
END
[ "$n" != 1 ] || cat >>"$ETC/fairlead/fairlead.toml" <<END

[[pool]]
name = "web"
backend = [
$(for k in $BACKENDS; do echo "  { name = \"backend$k\", address = \"$BACK_NET.$((20 + k))\" },"; done)
]

[pool.health]
type = "tcp"
port = $SERVICE_PORT
path = "direct"
interval = "500ms"
timeout = "300ms"
fall = 2

[[service]]
name = "web"
vip = "$VIP"
protocol = "tcp"
port = $SERVICE_PORT
pool = "web"
method = "ipip"
END
"$FAIRLEAD" check --config "$ETC/fairlead/fairlead.toml"
start fairlead "$FAIRLEAD" run --config "$ETC/fairlead/fairlead.toml" ${SOCKET:+--socket "$SOCKET"}
