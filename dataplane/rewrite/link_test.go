package rewrite

import (
	"bytes"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func TestSetMACs(t *testing.T) {
	do := func(b *Buf, _ *packet.Info) reason.Reason {
		SetMACs(b.Frame(), nextHopMAC, nodeMAC)
		return reason.None
	}
	macs := packettest.MACs(nextHopMAC, nodeMAC)
	two := packettest.VLAN(0x6007, 8)
	runGolden(t, []golden{
		{name: "IPv4", do: do, in: packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Trailer(6)),
			out: packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Trailer(6), macs)},
		{name: "IPv6 with two VLAN tags", do: do, in: packettest.TCP(ap(clientEnd6), ap(vipEnd6), two),
			out: packettest.TCP(ap(clientEnd6), ap(vipEnd6), two, macs)},
	})
}

func TestDecrementTTL(t *testing.T) {
	do := func(b *Buf, info *packet.Info) reason.Reason {
		DecrementTTL(b.Frame(), info)
		return reason.None
	}
	ttl := packettest.TTL
	runGolden(t, []golden{
		{name: "IPv4", do: do, in: packettest.TCP(ap(clientEnd4), ap(vipEnd4), ttl(64)), out: packettest.TCP(ap(clientEnd4), ap(vipEnd4), ttl(63))},
		{name: "IPv4, to the last hop, with options and a tag", do: do,
			in:  packettest.UDP(ap(clientEnd4), ap(vipEnd4), ttl(2), packettest.IPOptions(1, 1, 1, 1), packettest.VLAN(3)),
			out: packettest.UDP(ap(clientEnd4), ap(vipEnd4), ttl(1), packettest.IPOptions(1, 1, 1, 1), packettest.VLAN(3))},
		{name: "IPv6", do: do, in: packettest.UDP(ap(clientEnd6), ap(vipEnd6), ttl(255)), out: packettest.UDP(ap(clientEnd6), ap(vipEnd6), ttl(254))},
	})
}

// The incremental update must give the header checksum that a full computation
// gives, never its other representation, for every TTL and every sum the rest
// of the header may have.
func TestDecrementTTLChecksumIsExact(t *testing.T) {
	for ttl := 2; ttl <= 255; ttl += 23 {
		for id := range 65536 {
			in := packettest.UDP(ap(clientEnd4), ap(vipEnd4))
			h := packet.IPv4(in[14:])
			h.SetTTL(uint8(ttl))
			h.SetID(uint16(id))
			h.SetChecksum(0)
			h.SetChecksum(slowHeaderChecksum(h[:20]))
			DecrementTTL(in, &packet.Info{Kind: packet.KindIPv4, L3: 14})
			got := h.Checksum()
			h.SetChecksum(0)
			if want := slowHeaderChecksum(h[:20]); got != want || h.TTL() != uint8(ttl-1) {
				t.Fatalf("TTL %d, ID %d: checksum %#04x, want %#04x; TTL %d", ttl, id, got, want, h.TTL())
			}
		}
	}
}

// slowHeaderChecksum is the checksum of a header whose checksum field is zero.
// The sum of a header is never zero, so the complement of 0xffff stands for
// sums that are multiples of it.
func slowHeaderChecksum(header []byte) uint16 {
	sum := wordSum(header)
	if sum == 0 {
		sum = 0xffff
	}
	return ^uint16(sum)
}

func TestBuf(t *testing.T) {
	b := Buf{Chunk: []byte{0, 1, 2, 3, 4, 5}, Start: 2, End: 5}
	if !bytes.Equal(b.Frame(), []byte{2, 3, 4}) || b.Len() != 3 || cap(b.Frame()) != 3 {
		t.Errorf("frame is %v of capacity %d", b.Frame(), cap(b.Frame()))
	}
}
