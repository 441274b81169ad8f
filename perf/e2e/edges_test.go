package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/rig"
)

// clientPort is where raw frames of the client come from: below the range that
// its kernel gives out, so that the two do not meet.
const clientPort = 20000

// toVIP addresses a raw frame of the client to the node.
func (w *world) toVIP() packettest.Option {
	return packettest.MACs(mac(w.topo.Front.Interface), mac(w.topo.Client.Interface))
}

// tags are the VLAN tags of a frame, as bytes.
func tags(frame []byte, n int) []byte { return frame[12 : 12+4*n] }

// TestVLANs sends frames with one and two VLAN tags: they are steered,
// forwarded, and leave with the same tags, in both directions.
func TestVLANs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	for _, m := range []method{nat4, nat6, ipip4, gue6, direct4} {
		w.addSite(m)
	}
	w.start()
	client, backends := w.wire(w.topo.Client), w.wires()
	for n, s := range w.sites {
		for _, tci := range [][]uint16{{7}, {100, 7}} {
			from := netip.AddrPortFrom(w.clientAddress(s), uint16(clientPort+10*n+len(tci)))
			syn := packettest.TCP(from, s.at(webPort), w.toVIP(), packettest.VLAN(tci...))
			w.must(client.WriteFrame(syn))
			tagged := func(f []byte) bool {
				info, ok := parse(f)
				return ok && int(info.VLANs) == len(tci) && bytes.Equal(tags(f, len(tci)), tags(syn, len(tci)))
			}
			at, got := first(fmt.Sprintf("a frame of %s with tags %v", s.method, tci), backends, tagged)
			verify(t, got)
			if s.direct() {
				continue
			}
			info, _ := parse(got)
			w.must(at.WriteFrame(w.answer(at, &info, packettest.VLAN(tci...))))
			reply := client.next("the reply with tags", tagged)
			verify(t, reply)
			w.isReply(s, from, reply)
		}
	}
	w.balance()
	w.must(w.node.Stop())
}

// answer is a backend's SYN-ACK to the SYN that info tells of.
func (w *world) answer(at *wire, info *packet.Info, opts ...packettest.Option) []byte {
	from := netip.AddrPortFrom(info.Dst.Netip(), info.DstPort)
	to := netip.AddrPortFrom(info.Src.Netip(), info.SrcPort)
	opts = append(opts, packettest.MACs(mac(w.topo.Back.Interface), at.mac))
	if info.Proto == packet.ProtoSCTP {
		return packettest.SCTP(from, to, opts...)
	}
	return packettest.TCP(from, to, append(opts, packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK), packettest.Ack(1))...)
}

// isReply demands that a frame comes from the site and goes to its client.
func (w *world) isReply(s *site, client netip.AddrPort, frame []byte) {
	w.t.Helper()
	info, _ := parse(frame)
	from, to := info.Src.Netip(), netip.AddrPortFrom(info.Dst.Netip(), info.DstPort)
	if from != s.vip || to != client {
		w.t.Errorf("%s: the reply goes from %s to %s, want from %s to %s", s.method, from, to, s.vip, client)
	}
}

// TestSCTP carries SCTP packets both ways; NAT changes a port, and with it the
// CRC32c over all of the packet.
func TestSCTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	const port = 5000
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct6)}
	for _, s := range sites {
		pool := s.pool(s.name+"-sctp", port)
		w.config.Pools = append(w.config.Pools, pool)
		w.config.Services = append(w.config.Services, rig.Service{
			Name: pool.Name, VIP: s.vip, Protocol: "sctp", Port: port, Pool: pool.Name, Method: s.method.name,
		})
	}
	w.start()
	client, backends := w.wire(w.topo.Client), w.wires()
	for n, s := range sites {
		from := netip.AddrPortFrom(w.clientAddress(s), uint16(clientPort+n))
		w.must(client.WriteFrame(packettest.SCTP(from, s.at(port), w.toVIP(), packettest.Tag(0x01020304), packettest.PayloadLen(101))))
		at, got := first("an SCTP packet by "+s.method.String(), backends, func(f []byte) bool {
			info, ok := parse(f)
			return ok && (s.tunnel() || info.Proto == packet.ProtoSCTP)
		})
		verify(t, got)
		if s.direct() {
			continue
		}
		info, _ := parse(got)
		if info.DstPort != natOffset+port {
			t.Errorf("%s: the packet goes to port %d", s.method, info.DstPort)
		}
		w.must(at.WriteFrame(w.answer(at, &info, packettest.Tag(0x05060708), packettest.PayloadLen(55))))
		reply := client.next("the reply", func(f []byte) bool { i, ok := parse(f); return ok && i.Proto == packet.ProtoSCTP })
		verify(t, reply)
		w.isReply(s, from, reply)
	}
	w.balance()
	w.must(w.node.Stop())
}

// TestTTL has packets whose time runs out at the node answered as a router
// answers them, in the VIP's name, and takes one hop from all others.
func TestTTL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	for _, m := range []method{nat4, nat6, ipip4, gue6, direct4} {
		w.addSite(m)
	}
	w.start()
	client, backends := w.wire(w.topo.Client), w.wires()
	for n, s := range w.sites {
		from := netip.AddrPortFrom(w.clientAddress(s), uint16(clientPort+n))
		last := packettest.UDP(from, s.at(namePort), w.toVIP(), packettest.TTL(1), packettest.PayloadLen(40))
		w.must(client.WriteFrame(last))
		expired := client.next("time exceeded from "+s.vip.String(), func(f []byte) bool {
			info, ok := parse(f)
			timeExceeded := info.Proto == packet.ProtoICMP && info.ICMPType == packet.ICMPv4TimeExceeded ||
				info.Proto == packet.ProtoICMPv6 && info.ICMPType == packet.ICMPv6TimeExceeded
			return ok && timeExceeded
		})
		verify(t, expired)
		if err := packettest.VerifyQuote(expired); err != nil {
			t.Errorf("%s: %v", s.method, err)
		}
		info, _ := parse(expired)
		quoted := netip.AddrPortFrom(info.Inner.Src.Netip(), info.Inner.SrcPort)
		if info.Src.Netip() != s.vip || quoted != from {
			t.Errorf("%s: %s says that the time of a packet from %s is exceeded", s.method, info.Src, quoted)
		}

		w.must(client.WriteFrame(packettest.UDP(from, s.at(namePort), w.toVIP(), packettest.TTL(9), packettest.PayloadLen(40))))
		_, got := first("a packet with a hop less", backends, func(f []byte) bool {
			i, ok := parse(f)
			return ok && i.Proto != packet.ProtoICMPv6 && i.Kind != packet.KindARP
		})
		verify(t, got)
		inside := packettest.IPPacket(got)
		if s.tunnel() {
			var err error
			inside, err = packettest.Decapsulate(got, 6080)
			w.must(err)
		}
		ttl := inside[8]
		if s.vip6 {
			ttl = inside[7]
		}
		if ttl != 8 {
			t.Errorf("%s: a packet with a TTL of 9 arrives with %d", s.method, ttl)
		}
	}
	status := w.balance()
	if n := status.Ledger.Reasons["ttl_expired_reply"]; n != uint64(len(w.sites)) {
		t.Errorf("%d packets were answered with time exceeded, want %d", n, len(w.sites))
	}
	w.must(w.node.Stop())
}

// TestPortUnreachable asks a port where nobody listens: the backend's kernel
// says so, and the client's connected socket hears it.
func TestPortUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	const port = 99
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct6)}
	for _, s := range sites {
		pool := s.pool(s.name+"-closed", port)
		w.config.Pools = append(w.config.Pools, pool)
		w.config.Services = append(w.config.Services, rig.Service{
			Name: pool.Name, VIP: s.vip, Protocol: "udp", Port: port, Pool: pool.Name, Method: s.method.name,
		})
	}
	w.serve()
	w.start()
	client := w.wire(w.topo.Client)
	for _, s := range sites {
		conn, err := w.topo.Client.Dial(w.ctx, "udp", s.at(port).String())
		w.must(err)
		defer conn.Close()
		// Kernels send a few such messages a second, and no more.
		for heard := false; !heard && w.ctx.Err() == nil; {
			_, err := conn.Write([]byte("anybody?"))
			if err == nil {
				w.must(conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)))
				_, err = conn.Read(make([]byte, 16))
			}
			heard = errors.Is(err, unix.ECONNREFUSED)
		}
		if w.ctx.Err() != nil {
			t.Fatalf("%s: the client's socket hears nothing of the closed port", s.method)
		}
		message := client.next("the ICMP error", func(f []byte) bool {
			info, ok := parse(f)
			return ok && info.Inner.Proto == packet.ProtoUDP
		})
		verify(t, message)
		if err := packettest.VerifyQuote(message); err != nil {
			t.Errorf("%s: %v", s.method, err)
		}
	}
	status := w.balance()
	if n := status.Ledger.Reasons["icmp_error_forward"]; n < 2 {
		t.Errorf("%d ICMP errors were forwarded, want two at least", n)
	}
	w.must(w.node.Stop())
}
