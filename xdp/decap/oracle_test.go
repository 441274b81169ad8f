package decap

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// oracle says in Go what should become of a frame: the name of its counter and
// the frame that the host gets, nil when it is dropped. It shares nothing with
// the C source but the rules.
func oracle(frame []byte, cfg Config) (string, []byte) {
	linkLen, family := oracleLink(frame)
	if family == 0 {
		return "passed", frame
	}
	outer, verdict := oracleOuter(frame, linkLen, family)
	if verdict == "" && outer.proto == 17 {
		verdict = outer.gue(frame, cfg.GUEPort)
	} else if verdict == "" && outer.first {
		verdict = "fragment"
	}
	switch verdict {
	case "":
	case "malformed":
		return verdict, nil
	default:
		return verdict, frame
	}

	in := frame[min(outer.at, outer.end):outer.end]
	var dst netip.Addr
	var ecn byte
	switch {
	case outer.proto == 4 && len(in) >= 20 && in[0]>>4 == 4:
		header, total := 4*int(in[0]&15), int(u16(in, 2))
		if header < 20 || total < header || total > len(in) {
			return "malformed", nil
		}
		dst, ecn = netip.AddrFrom4([4]byte(in[16:20])), in[1]&3
	case outer.proto == 41 && len(in) >= 40 && in[0]>>4 == 6:
		if 40+int(u16(in, 4)) > len(in) {
			return "malformed", nil
		}
		dst, ecn = netip.AddrFrom16([16]byte(in[24:40])), in[1]>>4&3
	default:
		return "malformed", nil
	}
	if len(cfg.VIPs) > 0 && !slices.Contains(cfg.VIPs, dst) {
		return "not_vip", frame
	}
	allowed := func(p netip.Prefix) bool { return p.Contains(outer.src) }
	if len(cfg.LoadBalancers) > 0 && !slices.ContainsFunc(cfg.LoadBalancers, allowed) {
		return "rejected_source", nil
	}
	if outer.ecn == 3 && ecn == 0 {
		return "ecn_dropped", nil
	}

	ip := slices.Clone(frame[outer.at:])
	switch {
	case outer.ecn == 3:
		mark(ip, 3)
	case outer.ecn == 1 && ecn == 2:
		mark(ip, 1)
	}
	out := append(slices.Clone(frame[:linkLen]), ip...)
	etherType := uint16(0x86dd)
	if outer.proto == 4 {
		etherType = 0x0800
	}
	binary.BigEndian.PutUint16(out[linkLen-2:], etherType)

	kind := outer.kind
	if kind == "" {
		kind = map[[2]int]string{{4, 4}: "ipip_4in4", {4, 41}: "ipip_6in4", {6, 4}: "ipip_4in6", {6, 41}: "ipip_6in6"}[[2]int{family, int(outer.proto)}]
	}
	return kind, out
}

func u16(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

// mark writes an ECN codepoint. A header checksum that was off stays off by as
// much: only the receiver may judge it.
func mark(ip []byte, ecn byte) {
	if ip[0]>>4 == 6 {
		ip[1] = ip[1]&^0x30 | ecn<<4
		return
	}
	// In ones' complement, the checksum goes down by what the header goes up.
	was := uint32(^u16(ip, 10))
	up := uint32(ip[1]&^3|ecn) - uint32(ip[1])
	ip[1] = ip[1]&^3 | ecn
	sum := was + up
	if int32(up) < 0 {
		sum = was + 0xffff + up
	}
	if sum > 0xffff {
		sum -= 0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
}

// oracleLink is the length of the link-layer header and the family of what
// follows, 0 when that is not IP.
func oracleLink(f []byte) (length, family int) {
	for length = 14; length <= 22 && length <= len(f); length += 4 {
		switch u16(f, length-2) {
		case 0x0800:
			return length, 4
		case 0x86dd:
			return length, 6
		case 0x8100, 0x88a8, 0x9100:
		default:
			return 0, 0
		}
	}
	return 0, 0
}

// oracleHeader is what an outer packet says.
type oracleHeader struct {
	src     netip.Addr
	proto   byte
	ecn     byte
	first   bool   // it is a first fragment
	kind    string // of GUE
	at, end int    // what it carries, in the frame
}

func isTunnel(proto byte) bool { return proto == 4 || proto == 41 }

// oracleOuter reads an outer IP header; the verdict is empty when it may carry
// something for us. UDP's faults are the host's business.
func oracleOuter(f []byte, at, family int) (o oracleHeader, verdict string) {
	b := f[at:]
	fault := func(proto byte, verdict string) (oracleHeader, string) {
		if !isTunnel(proto) {
			verdict = "passed"
		}
		return oracleHeader{}, verdict
	}
	if family == 4 {
		if len(b) < 20 || !isTunnel(b[9]) && b[9] != 17 || b[0]>>4 != 4 {
			return o, "passed"
		}
		total := int(u16(b, 2))
		switch {
		case b[0] != 0x45:
			return fault(b[9], "options")
		case u16(b, 6)&0x1fff != 0:
			return fault(b[9], "fragment")
		case total < 20 || total > len(b) || headerSum(b[:20]) != 0xffff:
			return fault(b[9], "malformed")
		}
		return oracleHeader{src: netip.AddrFrom4([4]byte(b[12:16])), proto: b[9], ecn: b[1] & 3, first: b[6]&0x20 != 0, at: at + 20, end: at + total}, ""
	}

	if len(b) < 40 || b[0]>>4 != 6 {
		return o, "passed"
	}
	o = oracleHeader{src: netip.AddrFrom16([16]byte(b[8:24])), proto: b[6], ecn: b[1] >> 4 & 3, at: at + 40, end: at + 40 + int(u16(b, 4))}
	if o.proto == 44 {
		if len(f) < o.at+8 {
			return o, "passed"
		}
		o.proto, o.first = f[o.at], f[o.at+3]&1 != 0
		if u16(f, o.at+2)>>3 != 0 {
			return fault(o.proto, "fragment")
		}
		o.at += 8
	}
	if o.proto == 60 {
		if len(f) < o.at+2 {
			return o, "passed"
		}
		o.proto, o.at = f[o.at], o.at+8+8*int(f[o.at+1])
	}
	if !isTunnel(o.proto) && o.proto != 17 {
		return o, "passed"
	}
	if o.end > len(f) {
		return fault(o.proto, "malformed")
	}
	return o, ""
}

// headerSum adds up 16-bit words in ones' complement.
func headerSum(b []byte) int {
	sum := 0
	for i := 0; i < len(b); i += 2 {
		sum += int(u16(b, i))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

// gue steps over UDP and GUE headers.
func (o *oracleHeader) gue(f []byte, port uint16) (verdict string) {
	if o.at+8 > o.end || u16(f, o.at+2) != port {
		return "passed"
	}
	if o.first {
		return "fragment"
	}
	length := int(u16(f, o.at+4))
	if length < 12 || o.at+length > o.end {
		return "malformed"
	}
	o.end = o.at + length
	o.at += 8
	g := f[o.at:]
	switch {
	case g[0]>>6 == 0 && g[0]&0x20 == 0 && u16(g, 2) == 0:
		o.kind, o.proto = "gue", g[1]
		o.at += 4 + 4*int(g[0]&0x1f)
	case g[0]>>4 == 4:
		o.kind, o.proto = "gue_direct", 4
	case g[0]>>6 == 1:
		o.kind, o.proto = "gue_direct", 41
	default:
		return "malformed"
	}
	return ""
}

// comparison is the program with and without filters.
type comparison []struct {
	d   *Decap
	cfg Config
}

func newComparison(t testing.TB) comparison {
	strict, open := config(), Config{}
	strict.GUEPort, open.GUEPort = DefaultGUEPort, DefaultGUEPort
	return comparison{{loaded(t, strict), strict}, {loaded(t, open), open}}
}

// check compares the program with the oracle on a frame, and on the same frame
// with the checksum of an outer IPv4 header made right, without which most
// changes end early.
func (c comparison) check(t *testing.T, frame []byte) {
	frames := [][]byte{frame}
	if n, family := oracleLink(frame); family == 4 && len(frame) >= n+20 && frame[n] == 0x45 {
		frames = append(frames, append(slices.Clone(frame[:n]), rechecksummed(frame[n:])...))
	}
	for _, f := range frames {
		for _, side := range c {
			count, out := oracle(f, side.cfg)
			outcomeCase{"frame", f, count, out}.check(t, side.d)
			if t.Failed() {
				t.Fatalf("%+v: %x", side.cfg, f)
			}
		}
	}
}

// seeds are frames of every kind.
func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for _, in := range [][]byte{inner(t, client4, vip4, 2, 9), inner(t, client6, vip6, 1, 9)} {
		all = append(all,
			on(in),
			on(ipip(t, balancer4, backend4, 3, in), cTag),
			on(ipip(t, balancer6, backend6, 1, in), sTag, cTag),
			on(gue(t, balancer4, backend4, 3, 6080, 0, in)),
			on(gue(t, balancer6, backend6, 0, 6080, 3, in)),
			on(udpTo(t, balancer4, backend4, 1, 6080, in)),
			on(udpTo(t, client6, backend6, 2, 6080, in)),
			on(withOptions(ipip(t, balancer4, backend4, 0, in))),
			on(rechecksummed(patched(ipip(t, balancer4, backend4, 0, in), 6, 0x20, 0))),
			on(extended6(ipip(t, balancer6, backend6, 0, in), 60, make([]byte, 8)...)),
			on(extended6(gue(t, balancer6, backend6, 0, 6080, 0, in), 44, 0, 0, 0, 1, 0, 0, 0, 9)),
			on(extended6(ipip(t, balancer6, backend6, 0, in), 44, 0, 0, 0, 8, 0, 0, 0, 9)),
		)
	}
	return all
}

// FuzzDecap compares the program with the oracle on any frame.
func FuzzDecap(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	both := newComparison(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) >= 14 && len(frame) <= 3000 {
			both.check(t, frame)
		}
	})
}

// TestRandomChanges compares the program with the oracle on frames of every
// kind with a few bytes changed, and sometimes cut or padded.
func TestRandomChanges(t *testing.T) {
	both := newComparison(t)
	random := rand.New(rand.NewPCG(3, 4))
	all := seeds(t)
	for range 5000 {
		f := slices.Clone(all[random.IntN(len(all))])
		for range random.IntN(4) {
			at := 12 + random.IntN(min(len(f), 100)-12)
			switch random.IntN(3) {
			case 0:
				f[at] = byte(random.Uint32())
			case 1:
				f[at] ^= 1 << random.IntN(8)
			case 2:
				f[at] += byte(random.IntN(5)) - 2
			}
		}
		switch random.IntN(8) {
		case 0:
			f = f[:14+random.IntN(len(f)-14)]
		case 1:
			f = append(f, make([]byte, random.IntN(20))...)
		}
		both.check(t, f)
	}
}

// TestOracle holds the oracle itself against the tables' simplest rows.
func TestOracle(t *testing.T) {
	cfg := config()
	cfg.GUEPort = DefaultGUEPort
	in := inner(t, client4, vip4, 2, 9)
	count, out := oracle(on(ipip(t, balancer6, backend6, 3, in), cTag), cfg)
	if want := on(inner(t, client4, vip4, 3, 9), cTag); count != "ipip_4in6" || !slices.Equal(out, want) {
		t.Errorf("%s\n%x, want\n%x", count, out, want)
	}
}
