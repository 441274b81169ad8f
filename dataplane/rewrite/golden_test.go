package rewrite

import (
	"bytes"
	"encoding/hex"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// golden is one rewrite: a frame that arrives, what is done to it, and the
// frame that leaves, which packettest builds from nothing. With a reason other
// than None the frame must leave as it came.
type golden struct {
	name string
	in   []byte
	do   func(b *Buf, info *packet.Info) reason.Reason
	want reason.Reason
	out  []byte
	// unverified marks a case whose output is as wrong as its input.
	unverified bool
}

// runGolden runs the cases of a table.
func runGolden(t *testing.T, cases []golden) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out := c.out
			if c.want != reason.None {
				out = c.in
			}
			b := newBuf(c.in)
			info := parse(t, b.Frame())
			before := *info
			if got := c.do(b, info); got != c.want {
				t.Fatalf("reason is %v, want %v", got, c.want)
			}
			if *info != before {
				t.Error("the Info was changed")
			}
			if !bytes.Equal(b.Frame(), out) {
				t.Fatalf("frame is\n%swant\n%s", hex.Dump(b.Frame()), hex.Dump(out))
			}
			if !c.unverified {
				verify(t, b.Frame())
			}
		})
	}
}

// The ends of the flows in the tables.
const (
	client4, vip4, snat4, backend4 = "192.0.2.1", "198.18.0.10", "198.18.0.20", "203.0.113.5"
	client6, vip6, snat6, backend6 = "2001:db8:1::1", "2001:db8::10", "2001:db8::20", "2001:db8:2::5"

	clientEnd4, vipEnd4, snatEnd4, backendEnd4 = client4 + ":4000", vip4 + ":80", snat4 + ":1025", backend4 + ":8080"

	clientEnd6, vipEnd6   = "[" + client6 + "]:4000", "[" + vip6 + "]:80"
	snatEnd6, backendEnd6 = "[" + snat6 + "]:1025", "[" + backend6 + "]:8080"
)

var (
	nodeMAC    = [6]byte{0x02, 0, 0, 0, 0, 0x10}
	nextHopMAC = [6]byte{0x02, 0, 0, 0, 0, 0x20}

	ap = packettest.AddrPort
	ip = packettest.Addr
)

// nat is the rewrite NAT to the given ends.
func nat(src, dst string) func(*Buf, *packet.Info) reason.Reason {
	return func(b *Buf, info *packet.Info) reason.Reason { return NAT(b.Frame(), info, natArgs(src, dst)) }
}
