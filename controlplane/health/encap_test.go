package health

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// inner is a packet as the host's stack makes it.
func inner(t *testing.T, is6 bool) (packet []byte, id ident) {
	t.Helper()
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Window: 1000}
	var ip gopacket.SerializableLayer
	if is6 {
		h := &layers.IPv6{Version: 6, TrafficClass: 0x48, NextHeader: layers.IPProtocolTCP, HopLimit: 64,
			SrcIP: netip.MustParseAddr("2001:db8::1").AsSlice(), DstIP: netip.MustParseAddr("2001:db8::10").AsSlice()}
		tcp.SetNetworkLayerForChecksum(h) //nolint:errcheck // it is one
		ip, id = h, ident{unix.IPPROTO_TCP, netip.MustParseAddrPort("[2001:db8::1]:40000")}
	} else {
		h := &layers.IPv4{Version: 4, IHL: 5, TOS: 0x48, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
			SrcIP: netip.MustParseAddr("198.18.0.1").AsSlice(), DstIP: netip.MustParseAddr("198.18.0.10").AsSlice()}
		tcp.SetNetworkLayerForChecksum(h) //nolint:errcheck // it is one
		ip, id = h, ident{unix.IPPROTO_TCP, netip.MustParseAddrPort("198.18.0.1:40000")}
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload("odd")))
	return buf.Bytes(), id
}

// TestWrap has every method's frames read by a library that shares no code with
// this package.
func TestWrap(t *testing.T) {
	backend4, backend6 := netip.MustParseAddr("198.18.10.11"), netip.MustParseAddr("2001:db8:10::11")
	tunnel := model.Tunnel{Source4: netip.MustParseAddr("198.18.10.1"), Source6: netip.MustParseAddr("2001:db8:10::1"), GUEPort: 6080, TTL: 33}
	hop := &Hop{Interface: 3, Source: [6]byte{2, 0, 0, 0, 0, 1}, Destination: [6]byte{2, 0, 0, 0, 0, 2}}
	for _, is6 := range []bool{false, true} {
		for _, backend := range []netip.Addr{backend4, backend6} {
			for _, m := range []model.Method{model.IPIP, model.GUE, model.L2} {
				packet, want := inner(t, is6)
				if m == model.L2 {
					if is6 != backend.Is6() {
						continue
					}
				}
				buf := make([]byte, headroom+len(packet)+100)
				copy(buf[headroom:], packet)
				if id, ok := identify(packet); !ok || id != want {
					t.Errorf("identified as %v, want %v", id, want)
				}
				frame := wrap(buf, headroom+len(packet), backend, &Way{Method: m, Tunnel: tunnel}, hop)
				decoded := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
				eth := decoded.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
				if !bytes.Equal(eth.SrcMAC, hop.Source[:]) || !bytes.Equal(eth.DstMAC, hop.Destination[:]) {
					t.Errorf("%s: Ethernet header is %+v", m, eth)
				}
				if !bytes.HasSuffix(frame, packet) {
					t.Errorf("%s: the inner packet has changed", m)
				}
				if m == model.L2 {
					if len(frame) != ethernetLen+len(packet) {
						t.Errorf("l2: %d bytes became %d", len(packet), len(frame))
					}
					continue
				}
				var rest []byte
				var next layers.IPProtocol
				if backend.Is4() {
					h := decoded.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
					if h.SrcIP.String() != tunnel.Source4.String() || h.DstIP.String() != backend.String() || h.TTL != 33 || h.TOS != 0x48 ||
						int(h.Length) != len(frame)-ethernetLen || sum(h.Contents, 0) != 0xffff || h.Flags != layers.IPv4DontFragment {
						t.Errorf("%s: outer header is %+v", m, h)
					}
					next, rest = h.Protocol, h.Payload
				} else {
					h := decoded.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
					if h.SrcIP.String() != tunnel.Source6.String() || h.DstIP.String() != backend.String() || h.HopLimit != 33 || h.TrafficClass != 0x48 ||
						int(h.Length) != len(frame)-ethernetLen-ipv6Len {
						t.Errorf("%s: outer header is %+v", m, h)
					}
					next, rest = h.NextHeader, h.Payload
				}
				carried := layers.IPProtocolIPv4
				if is6 {
					carried = layers.IPProtocolIPv6
				}
				if m == model.IPIP {
					if next != carried || !bytes.Equal(rest, packet) {
						t.Errorf("ipip: protocol %s", next)
					}
					continue
				}
				u := decoded.Layer(layers.LayerTypeUDP).(*layers.UDP)
				if next != layers.IPProtocolUDP || u.DstPort != 6080 || u.SrcPort < 0xc000 || int(u.Length) != len(rest) || (u.Checksum == 0) != backend.Is4() {
					t.Errorf("gue: UDP header is %+v", u)
				}
				if backend.Is6() {
					src, dst := tunnel.Source6.As16(), backend.As16()
					if s := sum(rest, uint32(sum(src[:], 0))+uint32(sum(dst[:], 0))+unix.IPPROTO_UDP+uint32(len(rest))); s != 0xffff {
						t.Errorf("gue: the checksum is wrong by %#x", s)
					}
				}
				if g := u.Payload[:4]; g[0] != 0 || layers.IPProtocol(g[1]) != carried || g[2] != 0 || g[3] != 0 || !bytes.Equal(u.Payload[4:], packet) {
					t.Errorf("gue: header is %x", g)
				}
			}
		}
	}
}

// TestIdentify: whatever is in a packet, it is read within its bounds.
func TestIdentify(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		packet, _ := inner(t, is6)
		ip := ipv4Len
		if is6 {
			ip = ipv6Len
		}
		for n := range len(packet) {
			if _, ok := identify(packet[:n:n]); ok != (n >= ip+8) {
				t.Errorf("IPv6 %t: of %d bytes: %t", is6, n, ok)
			}
		}
	}
	fragment, _ := inner(t, false)
	fragment[6] = 0x20
	options, _ := inner(t, false)
	options[0] = 0x4f
	short, _ := inner(t, false)
	short[0] = 0x44
	for name, p := range map[string][]byte{"fragment": fragment, "header beyond the packet": options[:40:40], "header too short": short, "version": {0x50, 1, 2, 3}} {
		if id, ok := identify(p); ok {
			t.Errorf("%s: identified as %v", name, id)
		}
	}
}
