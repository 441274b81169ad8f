package rewrite

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// layer is the n-th layer of a kind in a frame, as gopacket decodes it.
func layer[T gopacket.Layer](t *testing.T, frame []byte, n int) T {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatal(e.Error())
	}
	for _, l := range p.Layers() {
		if got, ok := l.(T); ok {
			if n == 0 {
				return got
			}
			n--
		}
	}
	t.Fatalf("no such layer in %v", p)
	panic("unreachable")
}

// What a stranger's decoder reads of a tunnel packet, field by field.
func TestTunnelAsGopacketSeesIt(t *testing.T) {
	b := newBuf(packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.VLAN(0x6007), packettest.TOS(0xb9), packettest.ID(3), packettest.PayloadLen(11)))
	if r := ipip(tunnel4, backend4)(b, parse(t, b.Frame())); r != reason.None {
		t.Fatal(r)
	}
	frame := b.Frame()
	eth, tag := layer[*layers.Ethernet](t, frame, 0), layer[*layers.Dot1Q](t, frame, 0)
	if eth.DstMAC.String() != net.HardwareAddr(nextHopMAC[:]).String() || eth.SrcMAC.String() != net.HardwareAddr(nodeMAC[:]).String() ||
		tag.VLANIdentifier != 7 || tag.Priority != 3 || tag.Type != layers.EthernetTypeIPv4 {
		t.Errorf("link layer is %v, %v", eth, tag)
	}
	outer, inner := layer[*layers.IPv4](t, frame, 0), layer[*layers.IPv4](t, frame, 1)
	if outer.SrcIP.String() != tunnel4 || outer.DstIP.String() != backend4 || outer.Protocol != layers.IPProtocolIPv4 ||
		outer.TTL != outerTTL || outer.Id != outerID || outer.Flags != 0 || outer.TOS != 0xb9 || outer.Length != 20+20+20+11 {
		t.Errorf("outer header is %+v", outer)
	}
	if inner.SrcIP.String() != client4 || inner.DstIP.String() != vip4 || inner.Id != 3 || inner.Length != 20+20+11 {
		t.Errorf("inner header is %+v", inner)
	}
	if tcp := layer[*layers.TCP](t, frame, 0); tcp.SrcPort != 4000 || tcp.DstPort != 80 || !tcp.SYN || len(tcp.Payload) != 11 {
		t.Errorf("TCP header is %+v", tcp)
	}
}

func TestRepliesAsGopacketSeesThem(t *testing.T) {
	b := newBuf(packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.Flags(packet.TCPFlagSYN), packettest.Seq(41)))
	if r := Reset(b, parse(t, b.Frame())); r != reason.None {
		t.Fatal(r)
	}
	ip6, tcp := layer[*layers.IPv6](t, b.Frame(), 0), layer[*layers.TCP](t, b.Frame(), 0)
	if ip6.SrcIP.String() != vip6 || ip6.DstIP.String() != client6 || ip6.HopLimit != 64 || ip6.Length != 20 {
		t.Errorf("IPv6 header is %+v", ip6)
	}
	if tcp.SrcPort != 80 || tcp.DstPort != 4000 || !tcp.RST || !tcp.ACK || tcp.SYN || tcp.Seq != 0 || tcp.Ack != 42 || tcp.Window != 0 {
		t.Errorf("TCP header is %+v", tcp)
	}

	b = newBuf(packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.PayloadLen(1400)))
	if r := TooBig(b, parse(t, b.Frame()), addr(vip4), 1380); r != reason.None {
		t.Fatal(r)
	}
	icmp := layer[*layers.ICMPv4](t, b.Frame(), 0)
	if icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || icmp.Id != 0 || icmp.Seq != 1380 || b.Len() != 14+576 {
		t.Errorf("ICMP header is %+v in %d bytes", icmp, b.Len())
	}

	b = newBuf(packettest.NeighborSolicit(ip(client6), ip(vip6)))
	if r := NeighborAdvert(b, parse(t, b.Frame()), nodeMAC); r != reason.None {
		t.Fatal(r)
	}
	na := layer[*layers.ICMPv6NeighborAdvertisement](t, b.Frame(), 0)
	if !na.Solicited() || !na.Override() || na.Router() || na.TargetAddress.String() != vip6 || len(na.Options) != 1 ||
		na.Options[0].Type != layers.ICMPv6OptTargetAddress || string(na.Options[0].Data) != string(nodeMAC[:]) {
		t.Errorf("advertisement is %+v", na)
	}
}
