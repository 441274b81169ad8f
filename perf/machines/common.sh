# shellcheck shell=sh
# What the scripts of all machines share; they source it. A script is run as root
# on its machine, which may be a virtual machine or a network namespace:
#
#   ETC     directory for configuration files      default: /etc
#   FRONT   interface of the front segment         default: eth1
#   BACK    interface of the back segment          default: eth2
#   FAIRLEAD  the binary                           default: /usr/local/sbin/fairlead
#   START   how a program is started in the background: a command that is given a
#           name and then the program with its arguments
#
# Run twice, a script changes nothing the second time but what is to change.
set -eu

ETC=${ETC:-/etc}
FRONT=${FRONT:-eth1}
BACK=${BACK:-eth2}
FAIRLEAD=${FAIRLEAD:-/usr/local/sbin/fairlead}
START=${START:-$(dirname "$0")/start-unit}

# The network, as in docs/lab.md.
VIP=203.0.113.80
FRONT_NET=198.18.0
BACK_NET=198.18.1
ROUTER=254 # its last byte in both segments; balancer 1 has 11, backend 1 has 21
BALANCERS="1 2 3"
BACKENDS="1 2 3 4"
SERVICE_PORT=80

# address INTERFACE ADDRESS/BITS
address() {
	ip address show dev "$1" | grep -qF " $2 " || ip address add "$2" dev "$1"
	ip link set dev "$1" up
}

# default_route ADDRESS INTERFACE: what goes elsewhere goes by the lab's router.
# A virtual machine's own default route, by which its packages come, stays.
default_route() {
	ip route replace 203.0.113.0/24 via "$1" dev "$2"
}

# needs PROGRAM PACKAGE: installs the package where the program is missing.
needs() {
	command -v "$1" >/dev/null && return
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2"
}

# start NAME PROGRAM ARGUMENT...
start() {
	$START "$@"
}
