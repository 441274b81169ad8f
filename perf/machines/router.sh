#!/bin/sh
# The router: BIRD learns from the balancers who serves the VIP, and the kernel
# spreads connections over them by their ports (ECMP). The clients of the lab are
# on this machine.
. "$(dirname "$0")/common.sh"

needs bird bird2
needs curl curl
address "$FRONT" "$FRONT_NET.$ROUTER/24"
address "$BACK" "$BACK_NET.$ROUTER/24"
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1 \
	net.ipv4.conf.all.rp_filter=0 "net.ipv4.conf.$FRONT.rp_filter=0" "net.ipv4.conf.$BACK.rp_filter=0"

mkdir -p "$ETC/lab"
cat >"$ETC/lab/bird.conf" <<END
# Written by router.sh.
router id $FRONT_NET.$ROUTER;
log stderr all;
protocol device { }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol bfd { interface "*" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }
filter nodes {
	if (65535, 0) ~ bgp_community then bgp_local_pref = 0; # RFC 8326: a node that drains
	accept;
}
END
for n in $BALANCERS; do
	cat >>"$ETC/lab/bird.conf" <<END
protocol bgp lb$n {
	local $FRONT_NET.$ROUTER as 65000;
	neighbor $FRONT_NET.$((10 + n)) as 65010;
	passive on;
	bfd on;
	error wait time 1, 10; # a node that was found dead may be back soon; BIRD's own default is a minute
	ipv4 { import filter nodes; export none; };
}
END
done
mkdir -p "$ETC/lab/run"
start bird "$(command -v bird || echo /usr/sbin/bird)" -f -c "$ETC/lab/bird.conf" -s "$ETC/lab/run/bird.ctl" -P "$ETC/lab/run/bird.pid"
