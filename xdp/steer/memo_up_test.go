package steer

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// goesUp runs a frame that no memo may forward: with no socket it is dropped,
// and is as it came.
func (l *memoLab) goesUp(what string, f []byte) {
	l.t.Helper()
	l.endsAs(what, f, xdpDrop)
}

func (l *memoLab) endsAs(what string, f []byte, action uint32) {
	l.t.Helper()
	entries := append([]objectMemoEntry(nil), l.entries...)
	got, out := l.run(f)
	if got != action {
		l.t.Errorf("%s: %s, want %s", what, actionName(got), actionName(action))
	}
	equal(l.t.(*testing.T), what, out, f)
	for route := range memoRoutes {
		if c := l.count(route); c != (objectMemoCount{}) {
			l.t.Errorf("%s: counted %+v by route %d", what, c, route)
		}
	}
	for i := range entries {
		if l.entries[i] != entries[i] {
			l.t.Errorf("%s: entry %d has become %+v", what, i, l.entries[i])
		}
	}
}

// summed is a frame whose IPv4 header checksum, of an untagged packet without
// options, is right again.
func summed(f []byte) []byte {
	if binary.BigEndian.Uint16(f[12:]) != 0x0800 {
		return f
	}
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], ^sum16(f[14:34]))
	return f
}

// twist is a way of making a frame one that is not plain.
type twist struct {
	name string
	at   int // offset from where it counts
	to   []byte
}

// twists are those for a frame of one family and protocol, with offsets in the
// frame.
func twists(is4, isTCP bool, n int) []twist {
	const l3 = 14
	l4, ipLen := l3+20, n-l3
	all := []twist{{"destination MAC of a group", 0, []byte{3}}, {"broadcast", 0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}}
	header := 8
	if isTCP {
		header = 20
	}
	u16 := func(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
	if is4 {
		all = append(all,
			twist{"version 5", l3, []byte{0x55}},
			twist{"header of 16 bytes", l3, []byte{0x44}},
			twist{"options", l3, []byte{0x46}},
			twist{"total length beyond the frame", l3 + 2, u16(ipLen + 1)},
			twist{"total length without the transport header", l3 + 2, u16(20 + header - 1)},
			twist{"total length 0", l3 + 2, u16(0)},
			twist{"more fragments", l3 + 6, u16(0x2000)},
			twist{"later fragment", l3 + 6, u16(0x0001)},
			twist{"last bit of the fragment offset", l3 + 6, u16(0x1000)},
			twist{"reserved flag", l3 + 6, u16(0x8000)},
			twist{"TTL 1", l3 + 8, []byte{1}},
			twist{"TTL 0", l3 + 8, []byte{0}},
			twist{"ICMP", l3 + 9, []byte{1}},
			twist{"SCTP", l3 + 9, []byte{132}},
			twist{"another source", l3 + 15, []byte{9}},
		)
	} else {
		l4, ipLen = l3+40, n-l3-40
		all = append(all,
			twist{"version 4", l3, []byte{0x40}},
			twist{"payload beyond the frame", l3 + 4, u16(ipLen + 1)},
			twist{"payload without the transport header", l3 + 4, u16(header - 1)},
			twist{"payload length 0", l3 + 4, u16(0)},
			twist{"hop limit 1", l3 + 7, []byte{1}},
			twist{"hop limit 0", l3 + 7, []byte{0}},
			twist{"hop-by-hop options", l3 + 6, []byte{0}},
			twist{"fragment header", l3 + 6, []byte{44}},
			twist{"destination options", l3 + 6, []byte{60}},
			twist{"SCTP", l3 + 6, []byte{132}},
			twist{"another source", l3 + 8 + 15, []byte{9}},
			twist{"another network", l3 + 8 + 3, []byte{9}},
		)
	}
	all = append(all, twist{"another source port", l4, u16(4001)}, twist{"another destination port", l4 + 2, u16(81)})
	if !isTCP {
		return append(all, twist{"datagram of 7 bytes", l4 + 4, u16(7)}, twist{"datagram beyond the packet", l4 + 4, u16(n - l4 + 1)})
	}
	for name, flags := range map[string]byte{
		"SYN": 0x02, "SYN, ACK": 0x12, "FIN, ACK": 0x11, "FIN": 0x01, "RST": 0x04, "RST, ACK": 0x14, "no flag": 0, "ECE and CWR alone": 0xc0,
	} {
		all = append(all, twist{name, l4 + 13, []byte{flags}})
	}
	return append(all, twist{"data offset of 16 bytes", l4 + 12, []byte{0x40}},
		twist{"data offset 0", l4 + 12, []byte{0}})
}

// TestMemoNotPlain gives the program every kind of packet that is not plain, of
// a flow that it has a memo for.
func TestMemoNotPlain(t *testing.T) {
	l := newMemoLab(t)
	for _, w := range l.ways() {
		l.set(w, 0)
		is4, isTCP := w.flow.src.Is4(), w.flow.proto == layers.IPProtocolTCP
		l4 := 14 + 20
		if !is4 {
			l4 = 14 + 40
		}
		for _, x := range twists(is4, isTCP, len(w.frame)) {
			l.goesUp(w.name+": "+x.name, summed(patched(w.frame, x.at, x.to...)))
		}
		if is4 {
			l.goesUp(w.name+": header checksum wrong", patched(w.frame, 24, w.frame[24]^1))
		}
		if isTCP { // a data offset that leaves the packet: cut it to the header and 8 bytes
			short := append([]byte{}, w.frame[:l4+28]...)
			if is4 {
				binary.BigEndian.PutUint16(short[16:], 20+28)
			} else {
				binary.BigEndian.PutUint16(short[18:], 28)
			}
			l.goesUp(w.name+": data offset beyond the packet", summed(patched(short, l4+12, 0x80)))
		}
		for _, tag := range [][]byte{{0x81, 0x00, 0, 100}, {0x88, 0xa8, 0, 100}} {
			tagged := append(append(append([]byte{}, w.frame[:12]...), tag...), w.frame[12:]...)
			l.goesUp(w.name+": tagged", tagged)
		}
		for n := l4; n < len(w.frame); n++ {
			l.goesUp(fmt.Sprintf("%s: the first %d bytes", w.name, n), w.frame[:n])
		}
		if got, _ := l.run(w.frame); got != xdpCarried { // it was the memo after all
			t.Fatalf("%s: %s", w.name, actionName(got))
		}
	}
}

// TestMemoPlain gives the program what is unusual, but plain.
func TestMemoPlain(t *testing.T) {
	l := newMemoLab(t)
	for _, w := range l.ways() {
		is4, isTCP := w.flow.src.Is4(), w.flow.proto == layers.IPProtocolTCP
		l4 := 14 + 20
		if !is4 {
			l4 = 14 + 40
		}
		plain := map[string][]byte{"as it is": w.frame, "padding": append(append([]byte{}, w.frame...), make([]byte, 22)...)}
		if isTCP {
			for _, flags := range []byte{0x10, 0x18, 0x08, 0x20, 0x30, 0xd0} {
				plain[fmt.Sprintf("flags %#x", flags)] = patched(w.frame, l4+13, flags)
			}
			plain["options"] = patched(w.frame, l4+12, 0x80)
			plain["checksum wrong"] = patched(w.frame, l4+16, w.frame[l4+16]^1)
		} else {
			plain["no checksum"] = patched(w.frame, l4+6, 0, 0)
			plain["datagram shorter than the packet"] = patched(w.frame, l4+4, 0, 8)
		}
		ttl := 14 + 8
		if !is4 {
			ttl = 14 + 7
		}
		plain["TTL 2"] = summed(patched(w.frame, ttl, 2))
		plain["TTL 255"] = summed(patched(w.frame, ttl, 255))
		for name, f := range plain {
			l.set(w, 0)
			if got, _ := l.run(f); got != xdpCarried {
				t.Errorf("%s: %s: %s, want %s", w.name, name, actionName(got), actionName(xdpCarried))
			}
			sent := len(f)
			if w.route.Op == opIPIP || w.route.Op == opGUE { // padding is cut off
				sent = len(w.wanted)
			}
			if c, n := l.count(2), (objectMemoCount{Packets: 1, Bytes: uint64(len(f)), BytesSent: uint64(sent)}); c != n {
				t.Errorf("%s: %s: counted %+v, want %+v", w.name, name, c, n)
			}
		}
	}
}

// TestMemoPadding compares what becomes of a frame with padding: tunnels cut it
// off, the others keep it.
func TestMemoPadding(t *testing.T) {
	l := newMemoLab(t)
	padding := []byte("padding of a short frame")
	for _, w := range l.ways() {
		if !w.dontFragment {
			continue
		}
		l.set(w, 0)
		want := append([]byte{}, w.wanted...)
		if w.route.Op != opIPIP && w.route.Op != opGUE {
			want = append(want, padding...)
		}
		_, got := l.run(append(append([]byte{}, w.frame...), padding...))
		equal(t, w.name, got, want)
	}
}

// coarse is by how many ms the program's clock may be late: a tick, 10 at most.
const coarse = 11

// TestMemoDoesNotHold changes a memo and its route in each way that makes it one
// for no packet, or for others.
func TestMemoDoesNotHold(t *testing.T) {
	l := newMemoLab(t)
	now := monotonic(t)
	changes := map[string]func(w *way){
		"another address":       func(w *way) { w.entry.KeyLo ^= 1 },
		"another network":       func(w *way) { w.entry.KeyHi ^= 1 },
		"another protocol":      func(w *way) { w.entry.KeyRest ^= 1 << 8 },
		"another local address": func(w *way) { w.entry.KeyRest ^= 1 << 16 },
		"rest of the key":       func(w *way) { w.entry.KeyRest ^= 1 },
		"empty":                 func(w *way) { w.entry.Control = 0 },
		"being written":         func(w *way) { w.entry.Control = uint64(now+60000)<<32 | 0xffff<<16 | 1 },
		"lease over":            func(w *way) { w.entry.Control = control(now-coarse, 2, 9, 3) },
		"lease over for long":   func(w *way) { w.entry.Control = control(now-1<<30, 2, 9, 3) },
		"lease too far":         func(w *way) { w.entry.Control = control(now+1<<31+1<<20, 2, 9, 3) },
		"earlier generation":    func(w *way) { w.entry.Control = control(now+60000, 2, 8, 3) },
		"no generation":         func(w *way) { w.entry.Control, w.route.State = control(now+60000, 2, 0, 3), 0 },
		"generation of 9 bits":  func(w *way) { w.route.State = 0x109 },
		"route not valid":       func(w *way) { w.route.State = 0 },
		"route of no entry":     func(w *way) { w.entry.Control = control(now+60000, memoRoutes, 9, 3) },
		"last route number":     func(w *way) { w.entry.Control = control(now+60000, 0xffff, 9, 3) },
		"not for the kernel":    func(w *way) { w.entry.Flags &^= forKernel },
		"route not in kernel":   func(w *way) { w.route.Flags &^= routeInKernel },
		"too big":               func(w *way) { w.route.Mtu = uint32(len(w.frame) - 14 - 1) },
		"no operation":          func(w *way) { w.route.Op = 0 },
		"unknown operation":     func(w *way) { w.route.Op = 6 },
		"GUE over IPv6":         func(w *way) { w.route.Op = opGUE; w.route.Flags |= routeOuter6 },
		"unknown interface":     func(w *way) { w.route.Ifindex = 9999 },
		"interface 0":           func(w *way) { w.route.Ifindex = 0 },
	}
	for _, w := range l.ways() {
		for name, change := range changes {
			x := *w
			change(&x)
			if x.entry == w.entry && x.route == w.route {
				continue // that was so before
			}
			l.clear()
			l.routes[2] = x.route
			l.entries[places(&w.entry)[0]] = x.entry
			l.goesUp(w.name+": "+name, w.frame)
		}
		if w.route.Op == opNATForward {
			l.set(w, 0)
			l.goesUp(w.name+": another first byte of the source MAC", patched(w.frame, 6, 6))
			l.goesUp(w.name+": another last byte of the source MAC", patched(w.frame, 11, 9))
			x := *w
			x.entry.ViaLo = uint64(l.out.ifindex())
			l.set(&x, 0)
			l.goesUp(w.name+": another interface", w.frame)
			x.entry.ViaLo = 7<<32 | uint64(l.in.ifindex()) // the upper half is user space's
			l.set(&x, 0)
			if got, _ := l.run(w.frame); got != xdpCarried {
				t.Errorf("%s: %s", w.name, actionName(got))
			}
		}
	}
}

// TestMemoAfterDeny denies the source of a flow that has a memo, then lets it
// in again, then takes the address away.
func TestMemoAfterDeny(t *testing.T) {
	l := newMemoLab(t)
	w := l.ways()[0]
	l.set(w, 0)
	if err := l.s.Deny(client4); err != nil {
		t.Fatal(err)
	}
	l.endsAs("denied", w.frame, xdpDrop)
	if _, err := l.s.Undeny(client4); err != nil {
		t.Fatal(err)
	}
	if got, _ := l.run(w.frame); got != xdpCarried {
		t.Errorf("let in again: %s", actionName(got))
	}
	l.set(w, 0)
	setLocals(t, l.s, Local{Addr: vip4, Kind: VIP, ID: localID + 1})
	l.endsAs("address with another ID", w.frame, xdpDrop)
	setLocals(t, l.s, Local{Addr: vip4, Kind: Tunnel, ID: localID})
	l.endsAs("address of a tunnel", w.frame, xdpPass)
	setLocals(t, l.s)
	l.endsAs("address gone", w.frame, xdpPass)
	if got, want := counters(t, l.s, l.in.ifindex()), (Counters{Denied: 1, Memo: 1, FailDropped: 1, Passed: 2}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

// TestMemoSeen looks at what the program writes into an entry: when it was used,
// and nothing else.
func TestMemoSeen(t *testing.T) {
	l := newMemoLab(t)
	for _, w := range l.ways() {
		for _, before := range []uint16{0, uint16(monotonic(t) >> 8), 0xffff} {
			w.entry.Seen = before
			l.set(w, 1)
			early := monotonic(t) - coarse
			l.run(w.frame)
			late := monotonic(t)
			got := l.entries[places(&w.entry)[1]]
			if got.Seen-uint16(early>>8) > uint16(late>>8)-uint16(early>>8) {
				t.Errorf("%s: seen %d, want %d to %d", w.name, got.Seen, uint16(early>>8), uint16(late>>8))
			}
			got.Seen = w.entry.Seen
			if got != w.entry {
				t.Errorf("%s: the entry has become %+v", w.name, got)
			}
		}
	}
}
