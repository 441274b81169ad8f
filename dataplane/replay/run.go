package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/dataplane/ledger"
	"fairlead/dataplane/reason"
)

// Line is what the verdicts file says of one frame.
type Line struct {
	N          uint64 `json:"n"` // counted from 1
	Action     string `json:"action"`
	Reason     string `json:"reason"`
	Service    string `json:"service"` // its name, "" when the verdict is about no service
	Backend    string `json:"backend"` // its name, "" when the verdict is about no backend
	Generation uint64 `json:"generation"`
}

// Summary is what a whole capture came to. The counts of verdicts are of the
// capture's frames; the ledger counts also the fragments that frames were cut
// into.
type Summary struct {
	Frames   uint64
	Verdicts [reason.Count]uint64 // by reason
	Ledger   ledger.Ledger
}

// Sum adds up the frames whose verdict was action a.
func (s *Summary) Sum(a reason.Action) uint64 {
	var n uint64
	for r, count := range s.Verdicts {
		if reason.Reason(r).Action() == a {
			n += count
		}
	}
	return n
}

// snapLen is the snapshot length that the output file says it has: as long as
// any frame may be.
const snapLen = 262144

// Run replays the capture in, which errors call name. The frames that would be
// transmitted go to out as a pcap file, and a line of JSON for each frame to
// verdicts. When the capture cannot be read to its end, everything up to there
// is written and counted before the error is returned.
func Run(cfg Config, in io.Reader, name string, out, verdicts io.Writer) (*Summary, error) {
	c, err := openCapture(in, name)
	if err != nil {
		return nil, err
	}
	r, err := New(cfg)
	if err != nil {
		return nil, err
	}
	w := &output{frames: bufio.NewWriter(out), lines: bufio.NewWriter(verdicts)}
	if err := w.begin(c.nanos); err != nil {
		return nil, err
	}
	readErr := carry(c, r, portsOf(cfg.Snapshot), w)
	ended, endErr := r.End()
	writeErr := w.write(ended, nil)
	w.summary.Ledger = *r.Ledger()
	return &w.summary, errors.Join(readErr, endErr, writeErr, w.frames.Flush(), w.lines.Flush())
}

// carry takes the capture through, frame by frame.
func carry(c *capture, r *Replay, ports *ports, w *output) error {
	for {
		rec, err := c.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		ended, sent, err := r.Frame(Frame{Data: rec.data, Time: rec.time, Port: ports.of(rec.data, rec.iface)})
		if err != nil {
			return err
		}
		if err := w.write(ended, sent); err != nil {
			return err
		}
	}
}

// output is the two files that a replay writes.
type output struct {
	frames  *bufio.Writer
	pcap    *pcapgo.Writer
	lines   *bufio.Writer
	json    *json.Encoder
	summary Summary
}

// begin writes the header of the pcap file, whose times are as fine as the
// capture's.
func (w *output) begin(nanos bool) error {
	w.pcap = pcapgo.NewWriter(w.frames)
	if nanos {
		w.pcap = pcapgo.NewWriterNanos(w.frames)
	}
	w.json = json.NewEncoder(w.lines)
	w.json.SetEscapeHTML(false)
	if err := w.pcap.WriteFileHeader(snapLen, layers.LinkTypeEthernet); err != nil {
		return fmt.Errorf("write transmitted frames: %w", err)
	}
	return nil
}

func (w *output) write(ended []Ended, sent []Sent) error {
	for i := range sent {
		n := len(sent[i].Data)
		if err := w.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: sent[i].Time, CaptureLength: n, Length: n}, sent[i].Data); err != nil {
			return fmt.Errorf("write transmitted frames: %w", err)
		}
	}
	for _, e := range ended {
		v := e.Verdict
		w.summary.Frames++
		w.summary.Verdicts[v.Reason]++
		err := w.json.Encode(Line{
			N: e.N, Action: v.Action.String(), Reason: v.Reason.String(),
			Service: e.Service, Backend: e.Backend, Generation: e.Generation,
		})
		if err != nil {
			return fmt.Errorf("write verdicts: %w", err)
		}
	}
	return nil
}
