package e2e

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/perf/lab"
)

// wire is a host's cable: frames as they are.
type wire struct {
	*lab.PacketConn
	w    *world
	name string
	mac  [6]byte // the host's
}

// wire taps a host's cable until the test ends.
func (w *world) wire(n *lab.Node) *wire {
	w.t.Helper()
	c, err := n.PacketConn(n.Interface.Name)
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	deadline, _ := w.ctx.Deadline()
	w.must(c.SetReadDeadline(deadline))
	return &wire{c, w, n.Name, mac(n.Interface)}
}

// next is a copy of the next frame that fulfils cond.
func (c *wire) next(what string, cond func(frame []byte) bool) []byte {
	c.w.t.Helper()
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			c.w.t.Fatalf("%s waits for %s: %v", c.name, what, err)
		}
		if cond(frame) {
			return bytes.Clone(frame)
		}
	}
}

// wires taps the cables of all backends.
func (w *world) wires() []*wire {
	w.t.Helper()
	var all []*wire
	for _, b := range w.topo.Backends {
		all = append(all, w.wire(b))
	}
	return all
}

// first is the next frame on any of the cables that fulfils cond, and where.
func first(what string, wires []*wire, cond func(frame []byte) bool) (*wire, []byte) {
	w := wires[0].w
	w.t.Helper()
	deadline, _ := w.ctx.Deadline()
	defer func() {
		for _, c := range wires {
			w.must(c.SetReadDeadline(deadline))
		}
	}()
	for w.ctx.Err() == nil {
		for _, c := range wires {
			w.must(c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)))
			for {
				frame, err := c.ReadFrame()
				if err != nil {
					break
				}
				if cond(frame) {
					return c, bytes.Clone(frame)
				}
			}
		}
	}
	w.t.Fatalf("backends wait in vain for %s", what)
	return nil, nil
}

func mac(i *lab.Interface) [6]byte { return [6]byte(i.MAC) }

// clientAddress is the client's address in a site's family.
func (w *world) clientAddress(s *site) netip.Addr {
	if s.vip6 {
		return w.topo.Client.IPv6
	}
	return w.topo.Client.IPv4
}

// verify demands that a frame is right in every length and checksum.
func verify(t *testing.T, frame []byte) {
	t.Helper()
	if err := packettest.Verify(frame, 6080); err != nil {
		t.Errorf("a frame is wrong: %v: %x", err, frame)
	}
}

// parse reads a frame for matching; whether it is right verify says.
func parse(frame []byte) (info packet.Info, ok bool) {
	ok = packet.Parse(frame, &info) == reason.None
	return info, ok
}

// answersFor reports whether a frame is an answer in an address's name: an ARP
// reply, a neighbour advertisement, or an echo reply.
func answersFor(frame []byte, who netip.Addr) bool {
	info, ok := parse(frame)
	if !ok {
		return false
	}
	switch {
	case info.Kind == packet.KindARP:
		return info.ARPOp == packet.ARPReply && info.Src.Netip() == who
	case info.Proto == packet.ProtoICMPv6 && info.ICMPType == packet.ICMPv6NeighborAdvert:
		return packet.NDP(frame[info.L4:]).Target().Netip() == who
	case info.Proto == packet.ProtoICMPv6:
		return info.ICMPType == packet.ICMPv6EchoReply && info.Src.Netip() == who
	}
	return info.Proto == packet.ProtoICMP && info.ICMPType == packet.ICMPv4EchoReply && info.Src.Netip() == who
}
