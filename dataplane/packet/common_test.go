package packet_test

import "fairlead/dataplane/packet/packettest"

var (
	client4 = packettest.AddrPort("192.0.2.1:40000")
	vip4    = packettest.AddrPort("198.18.0.10:80")
	client6 = packettest.AddrPort("[2001:db8::1]:40000")
	vip6    = packettest.AddrPort("[2001:db8:10::10]:80")
)
