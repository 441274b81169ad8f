package rewrite

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func TestClampMSS(t *testing.T) {
	clamp := func(changed bool) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason {
			if got := ClampMSS(b.Frame(), info, 1360); got != changed {
				t.Errorf("ClampMSS says %v, want %v", got, changed)
			}
			return reason.None
		}
	}
	tcp4 := func(opts ...packettest.Option) []byte { return packettest.TCP(ap(clientEnd4), ap(vipEnd4), opts...) }
	tcp6 := func(opts ...packettest.Option) []byte { return packettest.TCP(ap(clientEnd6), ap(vipEnd6), opts...) }
	options := packettest.TCPOptions
	same := func(name string, frame []byte) golden {
		return golden{name: name, do: clamp(false), in: frame, out: frame}
	}
	wrong := same("a checksum that is wrong stays wrong by as much", nil)
	wrong.do, wrong.unverified = clamp(true), true
	wrong.in = tcp4(packettest.MSS(1460))
	wrong.in[14+20+16] ^= 0x40
	wrong.out = tcp4(packettest.MSS(1360))
	wrong.out[14+20+16] ^= 0x40
	runGolden(t, []golden{
		{name: "SYN, IPv4", do: clamp(true), in: tcp4(packettest.MSS(1460)), out: tcp4(packettest.MSS(1360))},
		{name: "SYN, IPv6, two VLAN tags", do: clamp(true),
			in: tcp6(packettest.MSS(8940), packettest.VLAN(1, 2)), out: tcp6(packettest.MSS(1360), packettest.VLAN(1, 2))},
		{name: "SYN-ACK", do: clamp(true),
			in:  tcp4(packettest.MSS(65535), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK)),
			out: tcp4(packettest.MSS(1360), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK))},
		{name: "as Linux sends it, with SACK, timestamps and window scale", do: clamp(true),
			in:  tcp4(options(2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7)),
			out: tcp4(options(2, 4, 5, 80, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7))},
		{name: "at an odd offset, behind a NOP", do: clamp(true),
			in: tcp4(options(1, 2, 4, 5, 180)), out: tcp4(options(1, 2, 4, 5, 80))},
		{name: "at an odd offset, behind an option of odd length", do: clamp(true),
			in: tcp6(options(3, 3, 7, 2, 4, 5, 180)), out: tcp6(options(3, 3, 7, 2, 4, 5, 80))},
		{name: "twice: both", do: clamp(true),
			in: tcp4(options(2, 4, 5, 180, 1, 2, 4, 35, 40)), out: tcp4(options(2, 4, 5, 80, 1, 2, 4, 5, 80))},
		{name: "before a malformed option", do: clamp(true),
			in: tcp4(options(2, 4, 5, 180, 8, 99, 0, 0)), out: tcp4(options(2, 4, 5, 80, 8, 99, 0, 0))},
		wrong,
		same("equal already", tcp4(packettest.MSS(1360))),
		same("lower already", tcp4(packettest.MSS(536))),
		same("no options", tcp4()),
		same("no such option", tcp4(options(1, 1, 4, 2))),
		same("no SYN", tcp4(packettest.MSS(1460), packettest.Flags(packet.TCPFlagACK))),
		same("UDP", packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.Payload([]byte{2, 4, 5, 180}))),
		same("behind the end of the list", tcp4(options(0, 0, 0, 0, 2, 4, 5, 180))),
		same("behind a malformed option", tcp4(options(8, 1, 2, 4, 5, 180))),
		same("option of length 3", tcp4(options(2, 3, 5, 180))),
		same("option of length 5", tcp4(options(2, 5, 5, 180, 0))),
		same("option that runs past the header", tcp4(options(1, 1, 2, 4))),
		same("bytes that look like the option inside another", tcp4(options(254, 6, 2, 4, 5, 180))),
		same("payload that looks like the option", tcp4(packettest.Payload([]byte{2, 4, 5, 180}))),
		{name: "first fragment", do: clamp(false), unverified: true,
			in:  tcp4(packettest.MSS(1460), packettest.Fragment(0, true, 1), packettest.PayloadLen(40)),
			out: tcp4(packettest.MSS(1460), packettest.Fragment(0, true, 1), packettest.PayloadLen(40))},
	})
}

// Random options, against a walk that reads them as RFC 9293 says and a full
// computation of the checksum.
func TestClampMSSRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	changed := 0
	for range 20000 {
		list := randomOptions(rng)
		limit := uint16(rng.IntN(3000))
		frame := packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.TCPOptions(list...), packettest.PayloadLen(rng.IntN(9)))
		want := packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.TCPOptions(slowClamp(list, limit)...), packettest.Payload(frame[len(frame)-payloadLen(frame):]))
		got := ClampMSS(frame, parse(t, frame), limit)
		if string(frame) != string(want) {
			t.Fatalf("options %v clamped to %d: frame is\n%x, want\n%x", list, limit, frame, want)
		}
		if got {
			changed++
		}
	}
	if changed < 2000 {
		t.Errorf("only %d of the segments were changed: the test tests little", changed)
	}
}

// payloadLen is the length of the payload of an untagged TCP segment over IPv6.
func payloadLen(frame []byte) int { return len(frame) - 14 - 40 - int(frame[14+40+12]>>4)*4 }

func randomOptions(rng *rand.Rand) []byte {
	var list []byte
	for len(list) < rng.IntN(40) {
		switch rng.IntN(6) {
		case 0:
			list = append(list, 1)
		case 1, 2:
			list = append(list, 2, 4, byte(rng.IntN(12)), byte(rng.Uint32()))
		case 3:
			list = append(list, 3, 3, 7)
		case 4:
			list = append(list, 4, 2)
		case 5:
			list = append(list, byte(rng.IntN(10)), byte(rng.IntN(8)), byte(rng.Uint32()))
		}
	}
	return list[:min(len(list), 40)]
}

// slowClamp is what the clamp must make of an option list.
func slowClamp(list []byte, limit uint16) []byte {
	out := append([]byte(nil), list...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	for i := 0; i < len(out); {
		if out[i] == 0 {
			break
		}
		if out[i] == 1 {
			i++
			continue
		}
		if i+1 == len(out) || out[i+1] < 2 || i+int(out[i+1]) > len(out) {
			break
		}
		if out[i] == 2 && out[i+1] == 4 {
			if mss := int(out[i+2])*256 + int(out[i+3]); mss > int(limit) {
				out[i+2], out[i+3] = byte(limit/256), byte(limit%256)
			}
		}
		i += int(out[i+1])
	}
	return out
}

func ExampleClampMSS() {
	frame := packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.MSS(1460))
	var info packet.Info
	packet.Parse(frame, &info)
	changed := ClampMSS(frame, &info, 1400)
	_, mss, _ := packet.TCP(frame[info.L4:]).Options().MSS()
	fmt.Println(changed, mss)
	// Output: true 1400
}
