package l2announce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/packet"
)

// sender sends frames out of any interface of the namespace that it was opened
// in.
type sender struct{ fd int }

func newSender() (*sender, error) {
	// Protocol 0: it receives nothing. A full device queue is an error and not
	// a wait.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("announce addresses: open packet socket: %w", err)
	}
	return &sender{fd}, nil
}

func (s *sender) close() error { return unix.Close(s.fd) }

// send sends a frame out of the interface with the kernel's number index.
func (s *sender) send(index int, frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: bigEndian16(packet.Ethernet(frame).EtherType()), Halen: 6}
	return unix.Sendto(s.fd, frame, 0, to)
}

// bigEndian16 is v as it lies in memory when it is written in network order.
func bigEndian16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// claim is what somebody says on the wire: that an address is at mac.
type claim struct {
	index int // of the interface, the kernel's number
	addr  netip.Addr
	mac   [6]byte
}

// listener hears claims on all interfaces: of IPv4 addresses by ARP, of IPv6
// addresses by neighbour advertisements. The kernel's stack hears them, too.
type listener struct {
	files []*os.File
	ended chan struct{}
}

// listen begins to listen in the network namespace of the calling thread. heard
// is called from two goroutines.
func listen(heard func(claim), log *slog.Logger) (*listener, error) {
	l := &listener{ended: make(chan struct{}, 2)}
	for _, of := range []struct {
		etherType uint16
		filter    []unix.SockFilter
	}{{packet.EtherTypeARP, nil}, {packet.EtherTypeIPv6, advertisementsOnly}} {
		file, err := openListener(of.etherType, of.filter)
		if err != nil {
			for _, f := range l.files {
				err = errors.Join(err, f.Close())
			}
			return nil, fmt.Errorf("listen for others that claim our addresses: %w", err)
		}
		l.files = append(l.files, file)
	}
	for _, f := range l.files {
		go func() {
			read(f, heard, log)
			l.ended <- struct{}{}
		}()
	}
	return l, nil
}

func (l *listener) close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	for range l.files {
		<-l.ended
	}
	return errors.Join(errs...)
}

// advertisementsOnly lets neighbour advertisements through, without extension
// headers before them: in a frame without a VLAN tag, byte 20 is the next
// header and byte 54 the ICMPv6 type.
var advertisementsOnly = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: packet.EthernetLen + 6},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: packet.ProtoICMPv6},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: packet.EthernetLen + packet.IPv6Len},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: packet.ICMPv6NeighborAdvert},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

func openListener(etherType uint16, filter []unix.SockFilter) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if filter != nil {
		program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian16(etherType)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "claims"), nil
}

// read hands on what is claimed until the file is closed.
func read(f *os.File, heard func(claim), log *slog.Logger) {
	raw, err := f.SyscallConn()
	if err != nil {
		return // closed already
	}
	buf := make([]byte, 256) // the rest of a longer frame says nothing of this
	for {
		var n int
		var from unix.Sockaddr
		closed := raw.Read(func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		})
		if closed != nil {
			return
		}
		if err != nil { // an interface that went down, say
			log.Debug("listen for claims", "error", err)
			time.Sleep(10 * time.Millisecond) // whatever it is, it must not become a spin
			continue
		}
		at, ok := from.(*unix.SockaddrLinklayer)
		if !ok || at.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if c, ok := claimIn(buf[:n]); ok {
			c.index = at.Ifindex
			heard(c)
		}
	}
}

// claimIn reads what a frame claims. Probes and solicitations claim nothing;
// what is malformed does neither.
func claimIn(frame []byte) (c claim, ok bool) {
	if len(frame) < packet.EthernetLen {
		return c, false
	}
	e, body := packet.Ethernet(frame), frame[packet.EthernetLen:]
	switch e.EtherType() {
	case packet.EtherTypeARP:
		h := packet.ARP(body)
		if len(body) < packet.ARPLen || h.HardwareType() != packet.ARPHardwareEthernet || h.ProtocolType() != packet.EtherTypeIPv4 ||
			h.HardwareLen() != 6 || h.ProtocolLen() != 4 || h.Op() != packet.ARPRequest && h.Op() != packet.ARPReply {
			return c, false
		}
		c.addr, c.mac = h.SenderAddr().Netip(), h.SenderMAC()
		return c, !c.addr.IsUnspecified()
	case packet.EtherTypeIPv6:
		return advertised(e, body)
	}
	return c, false
}

// advertised reads what an IPv6 packet claims if it is a valid neighbour
// advertisement (RFC 4861 section 7.1.2) without extension headers.
func advertised(e packet.Ethernet, body []byte) (c claim, ok bool) {
	ip := packet.IPv6(body)
	if len(body) < packet.IPv6Len+packet.NDPLen || ip.Version() != 6 || ip.NextHeader() != packet.ProtoICMPv6 || ip.HopLimit() != packet.NDPHopLimit {
		return c, false
	}
	message := body[packet.IPv6Len:]
	length := int(ip.PayloadLen())
	if length < packet.NDPLen || length > len(message) {
		return c, false
	}
	message = message[:length]
	icmp, h := packet.ICMPv6(message), packet.NDP(message)
	pseudo := packet.PseudoSum(ip.Src(), ip.Dst(), packet.ProtoICMPv6, uint32(length))
	if icmp.Type() != packet.ICMPv6NeighborAdvert || icmp.Code() != 0 || !h.ValidOptions() || packet.Finish(packet.Sum(message, pseudo)) != 0 {
		return c, false
	}
	c.addr = h.Target().Netip()
	if c.mac, ok = h.LinkLayer(packet.NDPOptionTargetLinkLayer); !ok {
		c.mac = e.SrcMAC()
	}
	return c, true
}
