package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vlanTagLen is the length of an IEEE 802.1Q tag.
const vlanTagLen = 4

// macAddressesLen is where an Ethernet header's type, or a VLAN tag, begins.
const macAddressesLen = 12

// maxFrameLen is the longest frame ReadFrame returns.
const maxFrameLen = 65536

// PacketConn sends and receives whole Ethernet frames on one interface of a
// host, below its IP stack. It sees what arrives, never what the host sends.
// One goroutine may read while another writes.
type PacketConn struct {
	file *os.File
	raw  interface {
		Read(func(fd uintptr) bool) error
	}
	buf, oob []byte
}

// tpacketAuxdata is struct tpacket_auxdata of <linux/if_packet.h>.
type tpacketAuxdata struct {
	status   uint32
	len      uint32
	snaplen  uint32
	mac      uint16
	net      uint16
	vlanTCI  uint16
	vlanTPID uint16
}

// PacketConn opens a packet socket on an interface of the host. The caller
// closes it.
func (h *Host) PacketConn(ifname string) (*PacketConn, error) {
	ifc := &Interface{Host: h, Name: ifname}
	link, err := ifc.link()
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*PacketConn, error) {
		return nil, fmt.Errorf("host %s: packet socket on %s: %w", h.Name, ifname, err)
	}
	fd := -1
	err = h.Do(func() (err error) {
		// Protocol 0 receives nothing: binding below starts it, on this
		// interface only.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return fail(err)
	}
	if err := setUpPacketSocket(fd, link.Attrs().Index); err != nil {
		return fail(errors.Join(err, unix.Close(fd)))
	}
	file := os.NewFile(uintptr(fd), "packet socket "+h.Name+":"+ifname)
	raw, err := file.SyscallConn()
	if err != nil {
		return fail(errors.Join(err, file.Close()))
	}
	return &PacketConn{
		file: file,
		raw:  raw,
		buf:  make([]byte, vlanTagLen+maxFrameLen),
		oob:  make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(tpacketAuxdata{})))),
	}, nil
}

func setUpPacketSocket(fd, ifindex int) error {
	for _, option := range []struct {
		name  string
		value int
	}{
		{"PACKET_AUXDATA", unix.PACKET_AUXDATA},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING},
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option.value, 1); err != nil {
			return fmt.Errorf("%s: %w", option.name, err)
		}
	}
	// Frames wait here while a test is busy sending.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	address := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: ifindex}
	if err := unix.Bind(fd, address); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// networkOrder swaps the bytes of v where the machine is little-endian.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// WriteFrame sends one frame, complete from its destination address on.
func (c *PacketConn) WriteFrame(frame []byte) error {
	_, err := c.file.Write(frame)
	return err
}

// ReadFrame returns the next frame that arrived, as it was on the wire: the
// kernel takes a frame's outer VLAN tag off before it hands it over, and it is
// put back here. The result is valid until the next ReadFrame. After the
// deadline the error is os.ErrDeadlineExceeded.
func (c *PacketConn) ReadFrame() ([]byte, error) {
	var n, oobn int
	var recvErr error
	err := c.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), c.buf[vlanTagLen:], c.oob, 0)
		return recvErr != unix.EAGAIN
	})
	if err == nil {
		err = recvErr
	}
	if err != nil {
		return nil, err
	}
	aux, err := parseAuxdata(c.oob[:oobn])
	if err != nil {
		return nil, err
	}
	if aux.status&unix.TP_STATUS_VLAN_VALID == 0 {
		return c.buf[vlanTagLen : vlanTagLen+n], nil
	}
	copy(c.buf, c.buf[vlanTagLen:vlanTagLen+macAddressesLen])
	binary.BigEndian.PutUint16(c.buf[macAddressesLen:], aux.tpid())
	binary.BigEndian.PutUint16(c.buf[macAddressesLen+2:], aux.vlanTCI)
	return c.buf[:vlanTagLen+n], nil
}

// tpid is the tag's EtherType; a kernel that does not say means 802.1Q.
func (a *tpacketAuxdata) tpid() uint16 {
	if a.status&unix.TP_STATUS_VLAN_TPID_VALID == 0 {
		return unix.ETH_P_8021Q
	}
	return a.vlanTPID
}

func parseAuxdata(oob []byte) (*tpacketAuxdata, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("packet socket: control message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA &&
			len(m.Data) >= int(unsafe.Sizeof(tpacketAuxdata{})) {
			return (*tpacketAuxdata)(unsafe.Pointer(&m.Data[0])), nil
		}
	}
	return nil, errors.New("packet socket: frame without auxiliary data")
}

// SetReadDeadline bounds the following calls of ReadFrame; the zero time means
// no bound.
func (c *PacketConn) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// Close closes the socket and ends a ReadFrame that waits.
func (c *PacketConn) Close() error { return c.file.Close() }
