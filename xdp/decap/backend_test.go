package decap

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
)

// backend is a whole backend in a namespace: interface with addresses and
// routes, VIPs, program.
type backend struct {
	decap *Decap
	near  netlink.Link
	wire  *wire
}

func newBackend(t *testing.T, mode Mode, mtu int) *backend {
	t.Helper()
	newNamespace(t)
	near, far := newPair(t, "eth", mtu)
	addAddress(t, near, backend4.String()+"/24")
	addAddress(t, near, backend6.String()+"/64")
	addGateway(t, near, "0.0.0.0/0", balancer4.String())
	addGateway(t, near, "::/0", balancer6.String())

	cfg := config()
	cfg.Mode = mode
	d, err := Attach(near.Attrs().Index, "eth", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h, err := SetupHost("eth", cfg.VIPs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &backend{decap: d, near: near, wire: newWire(t, far)}
}

// encapsulations are all ways to send a packet to the backend.
func encapsulations(t testing.TB, in []byte) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"ipip over IPv4":          on(ipip(t, balancer4, backend4, 0, in)),
		"ipip over IPv6":          on(ipip(t, balancer6, backend6, 0, in)),
		"gue over IPv4":           on(gue(t, balancer4, backend4, 0, 6080, 0, in)),
		"gue over IPv6":           on(gue(t, balancer6, backend6, 0, 6080, 0, in)),
		"gue variant 1 over IPv4": on(udpTo(t, balancer4, backend4, 0, 6080, in)),
		"gue variant 1 over IPv6": on(udpTo(t, balancer6, backend6, 0, 6080, in)),
	}
}

// setDeadline bounds every wait for what never comes.
func setDeadline(t *testing.T, c interface{ SetDeadline(time.Time) error }) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
}

// TestUDPServer sends tunnelled requests to a real server on the VIP, which
// answers the client directly.
func TestUDPServer(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			b := newBackend(t, mode, 1500)
			if a := b.decap.Attached(); a.Mode != mode || a.Frags || a.Reason != "" {
				t.Errorf("attached %+v", a)
			}
			requests := uint64(0)
			for _, c := range []struct{ client, vip netip.Addr }{{client4, vip4}, {client6, vip6}} {
				server, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.vip, 53)))
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				setDeadline(t, server)
				buf := make([]byte, 2000)
				for name, frame := range encapsulations(t, inner(t, c.client, c.vip, 0, 333)) {
					b.wire.send(t, frame)
					requests++
					n, from, err := server.ReadFromUDPAddrPort(buf)
					if err != nil {
						t.Fatal(err)
					}
					if n != 333 || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != netip.AddrPortFrom(c.client, 4000) {
						t.Errorf("%s: the server received %d bytes from %v", name, n, from)
					}
					answer := fmt.Appendf(nil, "answer to %s", name)
					if _, err := server.WriteToUDPAddrPort(answer, from); err != nil {
						t.Fatal(err)
					}
					got := b.wire.receive(t, name+": the answer", func(f []byte) bool { return bytes.HasSuffix(f, answer) })
					p := gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default)
					src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
					if src.String() != c.vip.String() || dst.String() != c.client.String() {
						t.Errorf("%s: the answer goes from %v to %v", name, src, dst)
					}
				}
			}
			got, err := b.decap.Counters()
			if err != nil {
				t.Fatal(err)
			}
			got.Passed = 0
			if want := (Counters{IPIP4in4: 1, IPIP4in6: 1, IPIP6in4: 1, IPIP6in6: 1, GUE: 4, GUEDirect: 4}); got != want || got.Decapsulated() != requests {
				t.Errorf("counters %+v, want %+v", got, want)
			}
		})
	}
}

// TestTCPServer opens connections to a real listener on the VIP by hand:
// tunnelled SYN, direct SYN-ACK, tunnelled ACK and data.
func TestTCPServer(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			b := newBackend(t, mode, 1500)
			port := uint16(20000)
			for _, c := range []struct{ client, vip netip.Addr }{{client4, vip4}, {client6, vip6}} {
				listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.vip, 80)))
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
				setDeadline(t, listener)
				for _, name := range []string{"ipip over IPv4", "ipip over IPv6", "gue over IPv4", "gue over IPv6"} {
					port++
					send := func(tcp layers.TCP, payload string) {
						header := ipHeader(c.client, c.vip, layers.IPProtocolTCP, 0)
						tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(port), 80, 65535
						if err := tcp.SetNetworkLayerForChecksum(header.(gopacket.NetworkLayer)); err != nil {
							t.Fatal(err)
						}
						b.wire.send(t, encapsulations(t, serialise(t, header, &tcp, gopacket.Payload(payload)))[name])
					}
					send(layers.TCP{SYN: true, Seq: 1000}, "")
					var synAck *layers.TCP
					b.wire.receive(t, name+": SYN-ACK", func(f []byte) bool {
						p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
						tcp, ok := p.TransportLayer().(*layers.TCP)
						if ok && tcp.DstPort == layers.TCPPort(port) && tcp.SYN && tcp.ACK && tcp.Ack == 1001 {
							synAck = tcp
						}
						return synAck != nil
					})
					send(layers.TCP{ACK: true, Seq: 1001, Ack: synAck.Seq + 1}, "")
					send(layers.TCP{ACK: true, PSH: true, Seq: 1001, Ack: synAck.Seq + 1}, "hello")
					conn, err := listener.AcceptTCP()
					if err != nil {
						t.Fatal(err)
					}
					setDeadline(t, conn)
					buf := make([]byte, 100)
					n, err := conn.Read(buf)
					if err != nil || string(buf[:n]) != "hello" {
						t.Errorf("%s: read %q, %v", name, buf[:n], err)
					}
					conn.Close()
				}
			}
		})
	}
}

// TestJumbo decapsulates frames in several buffers for a real server.
func TestJumbo(t *testing.T) {
	b := newBackend(t, ModeAuto, 9000)
	want := Attached{
		IfIndex: b.near.Attrs().Index, Name: "eth", Mode: ModeNative, Frags: true,
		Reason: "MTU 9000 needs a program that accepts frames in several buffers",
	}
	if a := b.decap.Attached(); a != want {
		t.Errorf("attached %+v, want %+v", a, want)
	}
	server, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip4, 53)))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	setDeadline(t, server)
	for name, frame := range encapsulations(t, inner(t, client4, vip4, 0, 8000)) {
		b.wire.send(t, frame)
		buf := make([]byte, 9000)
		if n, _, err := server.ReadFromUDPAddrPort(buf); err != nil || n != 8000 || buf[7999] != 7999&0xff {
			t.Errorf("%s: the server received %d bytes, %v", name, n, err)
		}
	}
}

// TestARPSilence asks for a VIP on the wire: the backend answers for its own
// address only.
func TestARPSilence(t *testing.T) {
	b := newBackend(t, ModeAuto, 1500)
	ask := func(target netip.Addr) []byte {
		return serialise(t, &layers.Ethernet{SrcMAC: farMAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: farMAC, SourceProtAddress: balancer4.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
	}
	// The request for the VIP is sent first: its answer would come first.
	b.wire.send(t, ask(vip4))
	b.wire.send(t, ask(backend4))
	b.wire.receive(t, "the answer for the backend's own address", func(f []byte) bool {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		if !ok || arp.Operation != layers.ARPReply {
			return false
		}
		if bytes.Equal(arp.SourceProtAddress, vip4.AsSlice()) {
			t.Error("the backend answers for the VIP")
		}
		return bytes.Equal(arp.SourceProtAddress, backend4.AsSlice())
	})
}
