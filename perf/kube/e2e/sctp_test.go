package e2e

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/perf/lab"
)

// speaksSCTP: a port of SCTP beside one of TCP with the same number. Packets are made
// here, because kernels need not have the protocol.
func speaksSCTP(w *world, ns string) {
	const service, target = 5000, 5001
	s := w.create(newService(ns, "chunks", port("chunks", corev1.ProtocolSCTP, service, target), port("web", corev1.ProtocolTCP, service, httpPort)))
	b := w.rack.Backends[0]
	w.endpoints(s, ready(b))
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "sctp 5000", 1)
	w.untilServed(vip, "tcp 5000", 1)

	client, server := w.wire(w.rack.Client), w.wire(b)
	toNode := packettest.MACs([6]byte(w.rack.Balancers[0].Interface.MAC), [6]byte(w.rack.Client.Interface.MAC))
	from := netip.AddrPortFrom(w.rack.Client.IPv4, 40001)
	question := packettest.SCTP(from, netip.AddrPortFrom(vip, service), toNode, packettest.Tag(0x01020304), packettest.PayloadLen(101))
	got := w.exchange(client, question, server, func(i *packet.Info) bool { return i.Proto == packet.ProtoSCTP && i.DstPort == target })
	toBack := packettest.MACs([6]byte(w.rack.Balancers[0].Interface.MAC), [6]byte(b.Interface.MAC))
	answer := packettest.SCTP(netip.AddrPortFrom(got.Dst.Netip(), got.DstPort), netip.AddrPortFrom(got.Src.Netip(), got.SrcPort), toBack,
		packettest.Tag(0x05060708), packettest.PayloadLen(55))
	back := w.exchange(server, answer, client, func(i *packet.Info) bool { return i.Proto == packet.ProtoSCTP && i.DstPort == from.Port() })
	if src := netip.AddrPortFrom(back.Src.Netip(), back.SrcPort); src != netip.AddrPortFrom(vip, service) {
		w.t.Errorf("the answer comes from %s, want the VIP", src)
	}
}

// wire is a host's cable, until the test ends.
func (w *world) wire(n *lab.Node) *lab.PacketConn {
	w.t.Helper()
	c, err := n.PacketConn(n.Interface.Name)
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends a frame, again and again, until one arrives that fulfils cond and is
// right in every length and checksum.
func (w *world) exchange(from *lab.PacketConn, frame []byte, to *lab.PacketConn, cond func(*packet.Info) bool) (info packet.Info) {
	w.t.Helper()
	w.until("a frame arrives", func() string {
		w.must(from.WriteFrame(frame))
		w.must(to.SetReadDeadline(time.Now().Add(200 * time.Millisecond)))
		for {
			got, err := to.ReadFrame()
			if err != nil {
				return err.Error()
			}
			if packet.Parse(got, &info) == reason.None && cond(&info) {
				w.must(packettest.Verify(got, 6080))
				return ""
			}
		}
	})
	return info
}
