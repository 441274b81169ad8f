package replay

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capture reads the frames of a pcap or pcapng file.
type capture struct {
	name   string
	read   func() ([]byte, gopacket.CaptureInfo, error)
	iface  func(gopacket.CaptureInfo) captureInterface
	nanos  bool // times are finer than microseconds
	frames uint64
	ahead  *lookahead // what was read to learn that
}

// captureInterface is what a capture says of the interface of a frame.
type captureInterface struct {
	name  string // "" when the file does not tell
	link  layers.LinkType
	nanos bool
}

// lookahead is a frame that was read and not yet asked for.
type lookahead struct {
	data []byte
	info gopacket.CaptureInfo
	err  error
}

// record is one frame of a capture.
type record struct {
	data  []byte
	time  time.Time
	iface string // name of the interface it was captured on, "" when the file does not tell
}

// How the file formats begin.
const (
	magicSection = 0x0a0d0d0a // pcapng, in either byte order
	magicMicros  = 0xa1b2c3d4 // pcap
	magicNanos   = 0xa1b23c4d // pcap with nanoseconds
	magicGzip    = 0x1f8b
)

// openCapture reads the header of a capture file. Files that were compressed
// with gzip are read as they are.
func openCapture(r io.Reader, name string) (*capture, error) {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(4)
	if err == nil && binary.BigEndian.Uint16(magic) == magicGzip {
		unzipped, zerr := gzip.NewReader(buffered)
		if zerr != nil {
			return nil, fmt.Errorf("%s: %w", name, zerr)
		}
		buffered = bufio.NewReader(unzipped)
		magic, err = buffered.Peek(4)
	}
	c := &capture{name: name}
	switch {
	case err == io.EOF && len(magic) == 0:
		return nil, fmt.Errorf("%s: the file is empty", name)
	case err == io.EOF:
		return nil, fmt.Errorf("%s: %d bytes are no capture file", name, len(magic))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch big, little := binary.BigEndian.Uint32(magic), binary.LittleEndian.Uint32(magic); {
	case big == magicSection:
		return c, c.openPcapng(buffered)
	case big == magicMicros, little == magicMicros, big == magicNanos, little == magicNanos:
		return c, c.openPcap(buffered)
	}
	return nil, fmt.Errorf("%s: neither a pcap nor a pcapng file: it begins with %x", name, magic)
}

func (c *capture) openPcap(r io.Reader) error {
	p, err := pcapgo.NewReader(r)
	if err != nil {
		return c.broken("its header", err)
	}
	if p.LinkType() != layers.LinkTypeEthernet {
		return fmt.Errorf("%s: %w", c.name, &LinkTypeError{Type: p.LinkType()})
	}
	c.nanos = p.Resolution() == gopacket.TimestampResolutionNanosecond
	c.read = p.ReadPacketData
	c.iface = func(gopacket.CaptureInfo) captureInterface {
		return captureInterface{link: layers.LinkTypeEthernet, nanos: c.nanos}
	}
	return nil
}

func (c *capture) openPcapng(r io.Reader) error {
	p, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	if err != nil {
		return c.broken("its header", err)
	}
	c.read = p.ReadPacketData
	c.iface = func(ci gopacket.CaptureInfo) captureInterface {
		iface, err := p.Interface(ci.InterfaceIndex)
		if err != nil {
			return captureInterface{link: layers.LinkTypeNull}
		}
		r := iface.TimestampResolution
		return captureInterface{iface.Name, iface.LinkType, r.Binary() || r.Exponent() > microDigits}
	}
	// The file describes its interfaces before their frames.
	data, ci, err := c.read()
	c.ahead = &lookahead{data, ci, err}
	if err == nil {
		c.nanos = c.iface(ci).nanos
	}
	return nil
}

// microDigits is the resolution of times in microseconds, as pcapng counts it.
const microDigits = 6

// readNext reads a frame, if none has been read ahead.
func (c *capture) readNext() ([]byte, gopacket.CaptureInfo, error) {
	if a := c.ahead; a != nil {
		c.ahead = nil
		return a.data, a.info, a.err
	}
	return c.read()
}

// next is the next frame, io.EOF when there are no more.
func (c *capture) next() (record, error) {
	data, ci, err := c.readNext()
	if err == io.EOF && ci.CaptureLength == 0 {
		return record{}, io.EOF
	}
	c.frames++
	if err != nil {
		return record{}, c.broken(fmt.Sprintf("frame %d", c.frames), err)
	}
	iface := c.iface(ci)
	if iface.link != layers.LinkTypeEthernet {
		return record{}, fmt.Errorf("%s: frame %d: %w", c.name, c.frames, &LinkTypeError{Type: iface.link, Interface: iface.name})
	}
	return record{data, ci.Timestamp, iface.name}, nil
}

// broken says where the file stops making sense.
func (c *capture) broken(where string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return fmt.Errorf("%s: the file ends in the middle of %s: %w", c.name, where, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s: %s: %w", c.name, where, err)
}

// LinkTypeError says that a capture, or one of its interfaces, is not of
// Ethernet frames.
type LinkTypeError struct {
	Type      layers.LinkType
	Interface string // "" when the file does not tell
}

// Error names the link type.
func (e *LinkTypeError) Error() string {
	on := ""
	if e.Interface != "" {
		on = " of interface " + e.Interface
	}
	return fmt.Sprintf("link type %d (%v)%s is not Ethernet; only captures of Ethernet frames can be replayed", int(e.Type), e.Type, on)
}
