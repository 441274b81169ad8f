#!/bin/sh
# backend.sh NUMBER: a backend, from 1 on: it decapsulates what the balancers send
# it, and answers clients directly, by the router. What serves on it is $SERVER, a
# command; a web server that tells the machine's name is the default.
. "$(dirname "$0")/common.sh"

address "$BACK" "$BACK_NET.$((20 + $1))/24"
ip route replace "$FRONT_NET.0/24" via "$BACK_NET.$ROUTER" dev "$BACK"

from=
for b in $BALANCERS; do
	from="$from --from $BACK_NET.$((10 + b))"
done
# shellcheck disable=SC2086
start backend "$FAIRLEAD" backend --interface "$BACK" --vip "$VIP" $from

if [ -z "${SERVER-}" ]; then
	needs python3 python3-minimal
	mkdir -p "$ETC/lab/www"
	echo "backend$1" >"$ETC/lab/www/index.html"
	SERVER="python3 -m http.server --directory $ETC/lab/www $SERVICE_PORT"
fi
# shellcheck disable=SC2086
[ "$SERVER" = none ] || start server $SERVER
