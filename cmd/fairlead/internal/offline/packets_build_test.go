package offline

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"fairlead/configs"
	"fairlead/dataplane/packet/packettest"
)

type endpoint = netip.AddrPort

// names are the names that link-layer addresses have in the tables: interfaces
// by their names in the configuration, backends by theirs, and a few others.
type names struct {
	mac   map[string][6]byte
	name  map[[6]byte]string
	ports map[string]uint16 // by interface
	order []string          // interfaces
}

func newNames(cfg *configs.Config) *names {
	n := &names{mac: make(map[string][6]byte), name: make(map[[6]byte]string), ports: make(map[string]uint16)}
	for i, in := range cfg.Interfaces {
		n.add(in.Name, in.MAC)
		n.ports[in.Name] = uint16(i)
		n.order = append(n.order, in.Name)
	}
	ends := make(map[netip.Addr]string)
	for _, pool := range cfg.State.Pools {
		for _, b := range pool.Backends {
			ends[b.Address] = b.Name
		}
	}
	for _, neighbor := range cfg.Neighbors {
		if name := ends[neighbor.Address]; name != "" {
			n.add(name, neighbor.MAC)
		} else {
			n.add("router", neighbor.MAC)
		}
	}
	n.add("client", [6]byte{2, 0, 0, 0, 0, 1})
	n.add("client2", [6]byte{2, 0, 0, 0, 0, 2})
	n.add("broadcast", [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return n
}

func (n *names) add(name string, mac [6]byte) {
	if _, taken := n.name[mac]; !taken {
		n.name[mac] = name
	}
	n.mac[name] = mac
}

// builder reads the words of an input.
type builder struct {
	words []string
	opts  []packettest.Option
	named bool                  // the link-layer addresses were named
	edits []func([]byte) []byte // what happens to the finished frame, in order
	pick  func([]byte) []byte   // takes one fragment of it
	err   error
}

// build makes the frame that a text describes and the port it arrives on.
func (n *names) build(text string) (frame []byte, port uint16, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be built: %v", r)
		}
	}()
	b := &builder{}
	if link, rest, explicit := strings.Cut(text, " | "); explicit && !strings.Contains(link, "[") {
		words := strings.Fields(link)
		if len(words) < 3 || words[1] != ">" {
			return nil, 0, fmt.Errorf("%q is not two names", link)
		}
		src, known1 := n.mac[words[0]]
		dst, known2 := n.mac[words[2]]
		if !known1 || !known2 {
			return nil, 0, fmt.Errorf("%q: unknown name", link)
		}
		at := words[2]
		if len(words) == 5 && words[3] == "at" {
			at = words[4]
		}
		b.opts, port, text, b.named = append(b.opts, packettest.MACs(dst, src)), n.ports[at], rest, true
	} else {
		b.opts = append(b.opts, packettest.MACs(n.mac[n.order[0]], n.mac["client"]))
	}
	b.words = strings.Fields(text)
	frame = b.frame(n)
	if b.err == nil && len(b.words) > 0 {
		b.err = fmt.Errorf("unknown word %q", b.words[0])
	}
	return frame, port, b.err
}

// next takes the next word.
func (b *builder) next() string {
	if len(b.words) == 0 {
		b.fail("the text ends too early")
		return ""
	}
	w := b.words[0]
	b.words = b.words[1:]
	return w
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// accept takes the next word if it is w.
func (b *builder) accept(w string) bool {
	if len(b.words) == 0 || b.words[0] != w {
		return false
	}
	b.words = b.words[1:]
	return true
}

func (b *builder) expect(w string) {
	if got := b.next(); got != w {
		b.fail("%q, expected %q", got, w)
	}
}

func (b *builder) number() int {
	w := b.next()
	v, err := strconv.ParseUint(w, 0, 32)
	if err != nil {
		b.fail("%q is no number", w)
	}
	return int(v)
}

func (b *builder) hex() []byte {
	w := b.next()
	v, err := hex.DecodeString(w)
	if err != nil {
		b.fail("%q is not hexadecimal", w)
	}
	return v
}

func (b *builder) addr() netip.Addr { return packettest.Addr(b.next()) }
func (b *builder) end() endpoint    { return packettest.AddrPort(b.next()) }

// ends reads "A > B" with ports.
func (b *builder) ends() (src, dst endpoint) {
	src = b.end()
	b.expect(">")
	return src, b.end()
}

// addrs reads "A > B" without ports.
func (b *builder) addrs() (src, dst netip.Addr) {
	src = b.addr()
	b.expect(">")
	return src, b.addr()
}

// frame reads one frame: its kind, its ends, and what else there is to it.
func (b *builder) frame(n *names) []byte {
	frame := b.kind(n)
	if b.pick != nil {
		frame = b.pick(frame)
	}
	for _, edit := range b.edits {
		frame = edit(frame)
	}
	return frame
}

func (b *builder) kind(n *names) []byte {
	switch kind := b.next(); kind {
	case "tcp":
		src, dst := b.ends()
		b.opts = append(b.opts, packettest.Flags(b.flags()))
		return packettest.TCP(src, dst, b.options()...)
	case "udp":
		src, dst := b.ends()
		return packettest.UDP(src, dst, b.options()...)
	case "sctp":
		src, dst := b.ends()
		return packettest.SCTP(src, dst, b.options()...)
	case "ping":
		src, dst := b.addrs()
		return packettest.Echo(src, dst, 7, 1, b.options()...)
	case "pong":
		src, dst := b.addrs()
		return packettest.EchoReply(src, dst, 7, 1, b.options()...)
	case "icmp":
		src, dst := b.addrs()
		typ, code := b.number(), b.number()
		return packettest.ICMP(src, dst, uint8(typ), uint8(code), b.options()...)
	case "ip":
		src, dst := b.addrs()
		b.expect("proto")
		proto := b.number()
		body := []byte{}
		if b.accept("body") {
			body = b.hex()
		}
		return packettest.IP(src, dst, uint8(proto), body, b.options()...)
	case "error":
		return b.icmpError(n)
	case "arp":
		return b.arp()
	case "solicit":
		src := b.addr()
		b.expect("for")
		return packettest.NeighborSolicit(src, b.addr(), b.groupOptions()...)
	case "advert":
		dst := b.addr()
		b.expect("has")
		return packettest.NeighborAdvert(dst, b.addr(), b.options()...)
	case "ethertype":
		t := b.number()
		frame := packettest.UDP(packettest.AddrPort("192.0.2.1:1"), packettest.AddrPort("192.0.2.2:2"), b.options()...)
		frame[12], frame[13] = byte(t>>8), byte(t)
		return frame
	default:
		b.fail("unknown kind of frame %q", kind)
		return nil
	}
}

// groupOptions are the options of a frame to a group, which goes to the group's
// link-layer address unless another was named.
func (b *builder) groupOptions() []packettest.Option {
	if !b.named {
		b.opts = nil
	}
	return b.options()
}

func (b *builder) arp() []byte {
	sender := b.addr()
	if b.accept("asks") {
		return packettest.ARPRequest(sender, b.addr(), b.groupOptions()...)
	}
	b.expect("tells")
	return packettest.ARPReply(sender, b.addr(), b.options()...)
}

// icmpErrors are types and codes by name, of IPv4 and IPv6.
var icmpErrors = map[string][2][2]uint8{
	"frag-needed":      {{3, 4}, {2, 0}},
	"too-big":          {{3, 4}, {2, 0}},
	"port-unreachable": {{3, 3}, {1, 4}},
	"host-unreachable": {{3, 1}, {1, 3}},
	"time-exceeded":    {{11, 0}, {3, 0}},
	"redirect":         {{5, 1}, {137, 0}},
	"source-quench":    {{4, 0}, {0, 0}},
}

// icmpError reads "error A > B NAME [mtu N] about [ FRAME ]".
func (b *builder) icmpError(n *names) []byte {
	src, dst := b.addrs()
	name := b.next()
	numbers, known := icmpErrors[name]
	if !known {
		b.fail("unknown ICMP error %q", name)
	}
	number := numbers[0]
	if src.Is6() {
		number = numbers[1]
	}
	if b.accept("mtu") {
		b.opts = append(b.opts, packettest.Rest(uint32(b.number())))
	}
	b.expect("about")
	b.expect("[")
	depth, at := 1, 0
	for ; at < len(b.words) && depth > 0; at++ {
		switch b.words[at] {
		case "[":
			depth++
		case "]":
			depth--
		}
	}
	if depth > 0 {
		b.fail("a bracket is not closed")
		return nil
	}
	quoted, _, err := n.build(strings.Join(b.words[:at-1], " "))
	if err != nil {
		b.fail("quoted packet: %v", err)
		return nil
	}
	b.words = b.words[at:]
	return packettest.ICMPError(src, dst, number[0], number[1], quoted, b.options()...)
}

var tcpFlags = map[string]uint8{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128, "none": 0}

// flags reads "syn+ack".
func (b *builder) flags() (v uint8) {
	for _, name := range strings.Split(b.next(), "+") {
		bit, known := tcpFlags[name]
		if !known {
			b.fail("unknown TCP flag %q", name)
		}
		v |= bit
	}
	return v
}

// options reads everything behind the ends of a frame.
func (b *builder) options() []packettest.Option {
	var vlans []uint16
	for len(b.words) > 0 && b.words[0] != "]" && b.err == nil {
		switch w := b.next(); w {
		case "vlan":
			vlans = append(vlans, uint16(b.number()))
		case "cut": // only the first N bytes of the frame
			keep := b.number()
			b.edits = append(b.edits, func(frame []byte) []byte { return frame[:keep] })
		case "set": // bytes of the frame
			at, bytes := b.number(), b.hex()
			b.edits = append(b.edits, func(frame []byte) []byte { copy(frame[at:], bytes); return frame })
		case "piece": // the N-th fragment that fits MTU
			which := b.number()
			b.expect("of")
			mtu := b.number()
			b.pick = func(frame []byte) []byte { return packettest.Fragments(frame, mtu, 0xabcd)[which-1] }
		default:
			opt := b.option(w)
			if opt == nil {
				b.fail("unknown word %q", w)
				return b.opts
			}
			b.opts = append(b.opts, opt)
		}
	}
	if len(vlans) > 0 {
		b.opts = append(b.opts, packettest.VLAN(vlans...))
	}
	return b.opts
}

// option is the builder's option of a word, nil when it has none.
func (b *builder) option(w string) packettest.Option {
	switch w {
	case "len":
		return packettest.PayloadLen(b.number())
	case "ttl":
		return packettest.TTL(uint8(b.number()))
	case "tos":
		return packettest.TOS(uint8(b.number()))
	case "id":
		return packettest.ID(uint32(b.number()))
	case "df":
		return packettest.DF()
	case "frag": // a fragment on its own: offset, and whether more follow
		offset := b.number()
		more := b.accept("more")
		if !more {
			b.expect("last")
		}
		return packettest.Fragment(offset, more, 0xabcd)
	case "seq":
		return packettest.Seq(uint32(b.number()))
	case "acks":
		return packettest.Ack(uint32(b.number()))
	case "mss":
		return packettest.MSS(uint16(b.number()))
	case "tcp-options":
		return packettest.TCPOptions(b.hex()...)
	case "ip-options":
		return packettest.IPOptions(b.hex()...)
	case "hop-by-hop":
		return packettest.HopByHop(b.number())
	case "dest-opts":
		return packettest.DestOpts(b.number())
	case "routing":
		return packettest.Routing()
	case "extension":
		return packettest.Extension(uint8(b.number()), b.hex()...)
	case "flow":
		return packettest.FlowLabel(uint32(b.number()))
	case "rest":
		return packettest.Rest(uint32(b.number()))
	case "udp-length":
		return packettest.UDPLength(b.number())
	case "no-checksum":
		return packettest.NoUDPChecksum()
	case "bad-checksum":
		return packettest.BadChecksum()
	case "bad-ip-checksum":
		return packettest.BadIPChecksum()
	case "quote":
		return packettest.QuoteLen(b.number())
	case "padding":
		return packettest.Trailer(b.number())
	}
	return nil
}
