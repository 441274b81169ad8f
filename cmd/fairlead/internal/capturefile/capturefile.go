// Package capturefile writes captured packets to files that tcpdump and
// Wireshark read.
package capturefile

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/controlplane/api"
)

// Header is what a file says of all of its packets.
type Header struct {
	Program    string   // what writes it
	Interfaces []string // of the node
	Snap       int      // bytes that are kept of each frame
	Comment    string   // what was captured
}

// Writer writes packets.
type Writer interface {
	// Packet writes one packet.
	Packet(p *api.Packet) error
	// Flush writes what is buffered.
	Flush() error
}

// NewNG makes a writer of the pcapng format: each packet with its interface,
// direction, and in a comment what became of it.
func NewNG(out io.Writer, h Header) (Writer, error) {
	if len(h.Interfaces) == 0 {
		return nil, fmt.Errorf("the node has no interfaces")
	}
	w := &ngWriter{interfaces: h.Interfaces}
	var err error
	for i, name := range h.Interfaces {
		in := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: uint32(h.Snap), TimestampResolution: 9, OS: "Linux"}
		if i > 0 {
			_, err = w.to.AddInterface(in)
		} else {
			w.to, err = pcapgo.NewNgWriterInterface(out, in, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: h.Program, OS: "Linux", Comment: h.Comment}})
		}
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

type ngWriter struct {
	to         *pcapgo.NgWriter
	interfaces []string
}

// Packet implements Writer.
func (w *ngWriter) Packet(p *api.Packet) error {
	at := slices.Index(w.interfaces, p.Interface)
	if at < 0 { // of a node whose interfaces have changed
		var err error
		if at, err = w.to.AddInterface(pcapgo.NgInterface{Name: p.Interface, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9, OS: "Linux"}); err != nil {
			return err
		}
		w.interfaces = append(w.interfaces, p.Interface)
	}
	options := pcapgo.NgPacketOptions{Comments: []string{Comment(p)}, Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}}
	if p.Sent {
		options.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	if p.Queue >= 0 {
		queue := uint32(p.Queue)
		options.Queue = &queue
	}
	return w.to.WritePacketWithOptions(info(p, at), p.Data, options)
}

// Flush implements Writer.
func (w *ngWriter) Flush() error { return w.to.Flush() }

func info(p *api.Packet, at int) gopacket.CaptureInfo {
	return gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: max(p.Length, len(p.Data)), InterfaceIndex: at}
}

// Comment says what became of a packet.
func Comment(p *api.Packet) string {
	parts := []string{p.Action, p.Reason}
	if p.Service != "" {
		parts = append(parts, "service "+p.Service)
	}
	if p.Backend != "" {
		parts = append(parts, "backend "+p.Backend)
	}
	if p.Altered {
		parts = append(parts, "rewritten before it was dropped")
	}
	return strings.Join(append(parts, fmt.Sprintf("worker %d", p.Worker)), ", ")
}

// NewClassic makes a writer of the old pcap format, in which packets are only
// bytes and times, for programs that read no other.
func NewClassic(out io.Writer, h Header) (Writer, error) {
	w := pcapgo.NewWriterNanos(out)
	return &classicWriter{w}, w.WriteFileHeader(uint32(h.Snap), layers.LinkTypeEthernet)
}

type classicWriter struct{ to *pcapgo.Writer }

// Packet implements Writer.
func (w *classicWriter) Packet(p *api.Packet) error {
	i := info(p, 0)
	i.Timestamp = i.Timestamp.UTC().Truncate(time.Nanosecond)
	return w.to.WritePacket(i, p.Data)
}

// Flush implements Writer.
func (w *classicWriter) Flush() error { return nil }
