package l2announce

import (
	"bytes"
	"net/netip"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

var (
	vip4  = netip.MustParseAddr("198.18.0.10")
	vip6  = netip.MustParseAddr("2001:db8::a:b1c:2d3e")
	ours  = [6]byte{2, 0, 0, 0, 0, 1}
	other = [6]byte{2, 0, 0, 0, 0, 2}
)

// padded is a frame with Ethernet's padding.
func padded(frame []byte) []byte {
	return append(frame, make([]byte, max(0, minFrame-len(frame)))...)
}

// TestFrames compares every frame with one that other code makes.
func TestFrames(t *testing.T) {
	multicast := [6]byte{0x33, 0x33, 0, 0, 0, 1}
	override := packettest.Rest(packet.NDPFlagOverride << 24)
	announced4, announced6 := announcements(vip4, ours), announcements(vip6, ours)
	if len(announced4) != 2 || len(announced6) != 1 {
		t.Fatalf("%d and %d announcements, want 2 and 1", len(announced4), len(announced6))
	}
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"ARP announcement", announced4[0], padded(packettest.ARPRequest(vip4, vip4, packettest.MACs(broadcast, ours)))},
		{"ARP probe", probe(vip4, ours), padded(packettest.ARPRequest(netip.IPv4Unspecified(), vip4, packettest.MACs(broadcast, ours)))},
		{"advertisement", announced6[0], packettest.NeighborAdvert(netip.MustParseAddr("ff02::1"), vip6, override, packettest.MACs(multicast, ours))},
		{"solicitation", probe(vip6, ours), packettest.NeighborSolicit(netip.IPv6Unspecified(), vip6, packettest.MACs([6]byte{0x33, 0x33, 0xff, 0x1c, 0x2d, 0x3e}, ours))},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s:\n%x, want\n%x", c.name, c.got, c.want)
		}
		if err := packettest.Verify(c.got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	reply := packet.ARP(announced4[1][packet.EthernetLen:])
	if e := packet.Ethernet(announced4[1]); e.DstMAC() != broadcast || e.SrcMAC() != ours || len(announced4[1]) != minFrame {
		t.Errorf("the unasked reply goes from %x to %x in %d bytes", e.SrcMAC(), e.DstMAC(), len(announced4[1]))
	}
	if reply.Op() != packet.ARPReply || reply.SenderMAC() != ours || reply.TargetMAC() != ours ||
		reply.SenderAddr().Netip() != vip4 || reply.TargetAddr().Netip() != vip4 {
		t.Errorf("the unasked reply: %x", reply)
	}
}

// claims are frames and what they claim, "" for nothing.
func claims() map[string]struct {
	frame []byte
	addr  netip.Addr
	mac   [6]byte
} {
	type row = struct {
		frame []byte
		addr  netip.Addr
		mac   [6]byte
	}
	from := packettest.MACs(ours, other)
	cut := func(frame []byte, n int) []byte { return frame[:n] }
	change := func(frame []byte, at int, v byte) []byte { frame[at] = v; return frame }
	advert := func() []byte { return packettest.NeighborAdvert(vip6, vip6, from) }
	reply := func() []byte { return packettest.ARPReply(vip4, netip.MustParseAddr("198.18.0.1"), from) }
	none := netip.Addr{}
	return map[string]row{
		"reply":                          {reply(), vip4, other},
		"request":                        {packettest.ARPRequest(vip4, netip.MustParseAddr("198.18.0.1"), packettest.MACs(broadcast, other)), vip4, other},
		"announcement":                   {announcements(vip4, other)[0], vip4, other},
		"unasked reply":                  {announcements(vip4, other)[1], vip4, other},
		"advertisement":                  {advert(), vip6, other},
		"unasked advertisement":          {announcements(vip6, other)[0], vip6, other},
		"probe":                          {probe(vip4, other), none, [6]byte{}},
		"solicitation":                   {probe(vip6, other), none, [6]byte{}},
		"short frame":                    {cut(reply(), 13), none, [6]byte{}},
		"cut ARP":                        {cut(reply(), packet.EthernetLen+packet.ARPLen-1), none, [6]byte{}},
		"ARP for another link layer":     {change(reply(), packet.EthernetLen+1, 6), none, [6]byte{}},
		"ARP for another protocol":       {change(reply(), packet.EthernetLen+2, 0x86), none, [6]byte{}},
		"ARP with longer addresses":      {change(reply(), packet.EthernetLen+5, 16), none, [6]byte{}},
		"reverse ARP":                    {change(reply(), packet.EthernetLen+7, 3), none, [6]byte{}},
		"cut advertisement":              {cut(advert(), packet.EthernetLen+packet.IPv6Len+packet.NDPLen-1), none, [6]byte{}},
		"forwarded advertisement":        {packettest.NeighborAdvert(vip6, vip6, from, packettest.TTL(254)), none, [6]byte{}},
		"advertisement with a wrong sum": {change(advert(), packet.EthernetLen+packet.IPv6Len+2, 0), none, [6]byte{}},
		"advertisement longer than sent": {change(advert(), packet.EthernetLen+5, 200), none, [6]byte{}},
		"IPv4":                           {packettest.TCP(netip.AddrPortFrom(vip4, 1), netip.AddrPortFrom(vip4, 2), from), none, [6]byte{}},
	}
}

// TestClaims asserts what each kind of frame claims.
func TestClaims(t *testing.T) {
	for name, c := range claims() {
		got, ok := claimIn(c.frame)
		if ok != c.addr.IsValid() || ok && (got.addr != c.addr || got.mac != c.mac) {
			t.Errorf("%s: %v %s at %x, want %s at %x", name, ok, got.addr, got.mac, c.addr, c.mac)
		}
	}
}

// FuzzClaimIn asserts that no frame does harm, and that what is claimed is in
// the frame.
func FuzzClaimIn(f *testing.F) {
	for _, c := range claims() {
		f.Add(c.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, ok := claimIn(frame)
		if !ok {
			return
		}
		if raw := c.addr.AsSlice(); !bytes.Contains(frame, raw) || !bytes.Contains(frame, c.mac[:]) {
			t.Errorf("%s at %x is claimed by %x", c.addr, c.mac, frame)
		}
	})
}
