package explain

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
)

// Write writes the explanation for people: a line for each stage the packet
// comes to, with what is missing where it ends.
func (e *Explanation) Write(out io.Writer) error {
	w := &writer{out: out}
	w.line("flow", "%s %s %s, first packet, generation %d", e.Client, e.Protocol, e.Destination, e.Generation)
	e.writeService(w)
	e.writeBackend(w)
	w.line("verdict", "%s %s", e.Action, e.Reason)
	return w.err
}

func (e *Explanation) writeService(w *writer) {
	switch a := e.Address; {
	case a == nil && e.Action == "drop":
		w.line("packet", "cannot be: %s", e.Reason)
		return
	case a == nil:
		w.line("address", "none of ours: the host gets the packet")
		return
	case a.Kind != "vip":
		w.line("address", "%s: clients do not send to it", map[string]string{"snat": "SNAT address", "tunnel": "tunnel source"}[a.Kind])
		return
	default:
		w.line("address", "VIP, %s, %s", yes(a.AnswersARP, "ARP is answered", "ARP is left to others"), yes(a.AnswersPing, "ping is answered", "ping is not answered"))
	}
	if e.Service == nil {
		w.line("service", "none has this protocol and port")
		return
	}
	s := e.Service
	w.line("service", "%s: port %s, method %s%s, pool %s of %s", s.Name, s.Ports, s.Method, yes(s.Affinity, ", session affinity", ""), s.Pool, count(s.Backends, "backend"))
	if ranges := e.Source.Ranges; len(ranges) > 0 {
		w.line("source", "%s by the ranges %s", yes(e.Source.Allowed, "allowed", "not allowed"), strings.Join(ranges, ", "))
	} else {
		w.line("source", "allowed: any source is")
	}
}

func (e *Explanation) writeBackend(w *writer) {
	if h := e.Hash; h != nil {
		w.line("hash", "0x%s of the %s", h.Value, map[string]string{"5-tuple": "5-tuple", "client": "client's address"}[h.Of])
		if h.TableSize == 0 {
			w.line("table", "empty: no backend of the pool may be chosen")
		} else {
			w.line("table", "slot %d of %d, table checksum %s", h.Slot, h.TableSize, h.Checksum)
		}
	}
	if b := e.Backend; b != nil {
		w.line("backend", "%s: %s, %s, weight %d, %s", b.Name, b.Address, portText(b.Port), b.Weight, b.State)
	}
	switch n := e.NextHop; {
	case n == nil:
	case !n.Known:
		w.line("next hop", "none: no route to the backend through an interface of the node")
	case !n.Resolved:
		w.line("next hop", "%s, link-layer address not known", n.Interface)
	default:
		w.line("next hop", "%s, %s", n.Interface, n.MAC)
	}
	if m := e.MTU; m != nil {
		w.line("mtu", "%d on the way, room for packets of %d", m.Path, m.Room)
	}
	if r := e.Rewrite; r != nil {
		w.line("rewrite", "%s", r.text())
	}
}

// text says what becomes of the packet's ends.
func (r *Rewrite) text() string {
	switch {
	case r.Inner != "":
		return fmt.Sprintf("%s tunnel %s > %s", r.Inner, r.Source, r.Destination)
	case len(r.SNAT) > 0:
		return fmt.Sprintf("%s > %s, source a free one of %s", r.Source, r.Destination, strings.Join(r.SNAT, ", "))
	}
	return fmt.Sprintf("%s > %s, only the link-layer addresses change", r.Source, r.Destination)
}

// writer writes lines until one fails.
type writer struct {
	out io.Writer
	err error
}

func (w *writer) line(stage, format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, "%-9s %s\n", stage, fmt.Sprintf(format, args...))
	}
}

func yes(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func portText(port uint16) string {
	if port == 0 {
		return "port as it comes"
	}
	return fmt.Sprintf("port %d", port)
}

func portsText(svc *fib.Service) string {
	switch {
	case svc.AllPorts():
		return "all"
	case svc.PortFirst == svc.PortLast:
		return strconv.Itoa(int(svc.PortFirst))
	}
	return fmt.Sprintf("%d-%d", svc.PortFirst, svc.PortLast)
}

func protocolName(proto uint8) string {
	switch proto {
	case packet.ProtoTCP:
		return "tcp"
	case packet.ProtoUDP:
		return "udp"
	case packet.ProtoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}

func kindName(k fib.LocalKind) string {
	switch k {
	case fib.LocalVIP:
		return "vip"
	case fib.LocalSNAT:
		return "snat"
	case fib.LocalTunnel:
		return "tunnel"
	}
	return "unknown"
}

func stateName(b *fib.Backend) string {
	switch {
	case b.Flags&fib.BackendDown != 0:
		return "down"
	case b.Flags&fib.BackendDraining != 0 || b.Weight == 0:
		return "draining"
	}
	return "up"
}

func prefixText(r *fib.SourceRange) string {
	bits := int(r.Bits)
	if r.Addr.Is4() && bits >= 96 {
		bits -= 96
	}
	return netip.PrefixFrom(r.Addr.Netip(), bits).String()
}

func macText(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }

// endText is an address, with its port if the packet has ports of its own.
func endText(a packet.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a.Netip(), port).String()
}

// snatText is a SNAT address with its ports.
func snatText(n *fib.SNAT) string {
	text := endText(n.Addr, n.PortFirst)
	if n.PortLast != n.PortFirst {
		text += fmt.Sprintf("-%d", n.PortLast)
	}
	return text
}
