package configs

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"fairlead/controlplane/model"
)

// seedText is the hash seed of a file that gives none.
const seedText = "fairlead"

// parseSeed makes the key of the flow hash from its text: 32 hexadecimal
// digits are the key itself, big-endian; of any other text it is the first 16
// bytes of the SHA-256 sum.
func parseSeed(text string) [2]uint64 {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 16 {
		sum := sha256.Sum256([]byte(text))
		key = sum[:16]
	}
	return [2]uint64{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
}

// address gives an IP address. Which addresses may be used for what is the
// model's to say; a zone has no meaning anywhere.
func (t *table) address(key string) (netip.Addr, bool) {
	v, there := t.get(key)
	if !there {
		return netip.Addr{}, false
	}
	s, ok := v.(string)
	if !ok {
		t.refuse(key, "expected an IP address in a string, found %s", kind(v))
		return netip.Addr{}, false
	}
	a, wrong := parseAddress(s)
	if wrong != "" {
		t.refuse(key, "%s", wrong)
		return netip.Addr{}, false
	}
	return a, true
}

// parseAddress reads an IP address; wrong says what is wrong with it.
func parseAddress(s string) (a netip.Addr, wrong string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Contains(s, "/"):
		return a, strconv.Quote(s) + " is a prefix, not an IP address"
	case err != nil:
		return a, strconv.Quote(s) + " is not an IP address"
	case a.Is4In6():
		return a, strconv.Quote(s) + " is an IPv4-mapped IPv6 address; write it as " + a.Unmap().WithZone("").String()
	case a.Zone() != "":
		return a, strconv.Quote(s) + " has a zone; write it as " + a.WithZone("").String()
	}
	return a, ""
}

// hostAddress gives the address of a neighbour: unicast and not the host's
// own. IPv6 link-local addresses are common for gateways and allowed.
func (t *table) hostAddress(key string) (netip.Addr, bool) {
	a, ok := t.address(key)
	if ok && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		t.refuse(key, "%s is not the address of a neighbour", a)
		return a, false
	}
	return a, ok
}

// endpoint reads a backend's address: with a port, or without (port 0).
func (t *table) endpoint(key string) (a netip.Addr, port uint16, ok bool) {
	v, there := t.get(key)
	if !there {
		return a, 0, false
	}
	s, isText := v.(string)
	if !isText {
		t.refuse(key, "expected an IP address in a string, with or without a port, found %s", kind(v))
		return a, 0, false
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil { // no port
		host, portText = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
	}
	a, wrong := parseAddress(host)
	switch {
	case wrong != "" && err != nil && !strings.Contains(wrong, "write it as"):
		t.refuse(key, `%q is not an IP address with or without a port; write it as "192.0.2.1:80", "[2001:db8::1]:80" or "192.0.2.1"`, s)
		return a, 0, false
	case wrong != "":
		t.refuse(key, "%s", wrong)
		return a, 0, false
	case err != nil:
		return a, 0, true
	}
	n, ok := parsePort(portText)
	if !ok {
		t.refuse(key, "%q: port %q is not a number from 1 to 65535", s, portText)
		return a, 0, false
	}
	return a, n, true
}

// parsePort reads a port other than 0, in plain decimal digits.
func parsePort(s string) (uint16, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n != 0
}

// ports reads one port as an integer, or a range as a string "8000-8010".
// Integer 0 is every port where zero is allowed.
func (t *table) ports(key string, fallback model.PortRange, zero bool) (model.PortRange, bool) {
	v, there := t.get(key)
	switch v := v.(type) {
	case int64:
		if v == 0 && zero {
			return model.AllPorts, true
		}
		if v < 1 || v > 65535 {
			least := 1
			if zero {
				least = 0
			}
			t.refuse(key, "%d is out of range; it must be %d to 65535", v, least)
			return fallback, false
		}
		return model.PortRange{First: uint16(v), Last: uint16(v)}, true
	case string:
		first, last, dash := strings.Cut(v, "-")
		if !dash {
			last = first
		}
		from, ok1 := parsePort(strings.TrimSpace(first))
		to, ok2 := parsePort(strings.TrimSpace(last))
		switch {
		case !ok1 || !ok2:
			t.refuse(key, `%q is not a range of ports; write it as "8000-8010", from 1 to 65535`, v)
		case from > to:
			t.refuse(key, "the port range %q ends before it begins", v)
		default:
			return model.PortRange{First: from, Last: to}, true
		}
		return fallback, false
	}
	if there {
		t.refuse(key, `expected an integer or a range such as "8000-8010", found %s`, kind(v))
		return fallback, false
	}
	return fallback, true
}

// mac reads an Ethernet address of one station; the zero address when there is
// none.
func (t *table) mac(key string) (mac [6]byte, ok bool) {
	s := t.text(key, "")
	if _, there := t.data[key].(string); !there {
		return mac, false
	}
	hw, err := net.ParseMAC(s)
	switch {
	case err != nil || len(hw) != 6:
		t.refuse(key, `%q is not an Ethernet address; write it as "02:00:00:00:00:01"`, s)
		return mac, false
	case hw[0]&1 != 0:
		t.refuse(key, "%s is a multicast or broadcast address", hw)
		return mac, false
	}
	copy(mac[:], hw)
	if mac == ([6]byte{}) {
		t.refuse(key, "%s is no station's address", hw)
		return mac, false
	}
	return mac, true
}

// prefixes reads source ranges; a plain address stands for itself alone.
func (t *table) prefixes(key string) []netip.Prefix {
	v, there := t.get(key)
	if !there {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.refuse(key, "expected an array of prefixes in strings, found %s", kind(v))
		return nil
	}
	var out []netip.Prefix
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			t.refuseElement(key, i, "expected a prefix in a string, found %s", kind(e))
			continue
		}
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.refuseElement(key, i, `%q is not a prefix such as "192.0.2.0/24"`, s)
			continue
		}
		out = append(out, p)
	}
	return out
}

// maxSpan is the most addresses one [[snat]] table may stand for.
const maxSpan = 4096

// addressSpan reads one address, a range "a-b", or a prefix, and lists its
// addresses.
func (t *table) addressSpan(key string) ([]netip.Addr, bool) {
	v, there := t.get(key)
	if !there {
		return nil, false
	}
	s, isText := v.(string)
	if !isText {
		t.refuse(key, `expected an address, a range "a-b" or a prefix in a string, found %s`, kind(v))
		return nil, false
	}
	first, last, wrong := parseSpan(s)
	if wrong != "" {
		t.refuse(key, "%s", wrong)
		return nil, false
	}
	var out []netip.Addr
	for a := first; ; a = a.Next() {
		out = append(out, a)
		if a == last {
			return out, true
		}
		if len(out) == maxSpan {
			t.refuse(key, "%q is more than %d addresses", s, maxSpan)
			return nil, false
		}
	}
}

// parseSpan reads the ends of a span of addresses.
func parseSpan(s string) (first, last netip.Addr, wrong string) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			return first, last, strconv.Quote(s) + " is not a prefix"
		case p.Addr().Is4In6():
			return first, last, strconv.Quote(s) + " is IPv4-mapped; write it as an IPv4 prefix"
		case p.Masked() != p:
			return first, last, strconv.Quote(s) + " has bits set after its prefix; write it as " + p.Masked().String()
		}
		return p.Addr(), lastOf(p), ""
	}
	from, to, dash := strings.Cut(s, "-")
	if first, wrong = parseAddress(strings.TrimSpace(from)); wrong != "" || !dash {
		return first, first, wrong
	}
	if last, wrong = parseAddress(strings.TrimSpace(to)); wrong != "" {
		return first, last, wrong
	}
	switch {
	case first.Is4() != last.Is4():
		wrong = "the range " + strconv.Quote(s) + " has ends of two families"
	case last.Less(first):
		wrong = "the range " + strconv.Quote(s) + " ends before it begins"
	}
	return first, last, wrong
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
