package dataplane

import (
	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

// noPort says that a frame leaves by no port.
const noPort = nic.MaxPorts

// look finds out, once a round, whether anybody looks at packets.
func (w *Worker) look() {
	w.tapped = w.Taps != nil && w.Taps.Refresh(uint32(w.now))
	w.watched = w.tapped || w.Trace != nil
}

// keep keeps the frames of a batch as they came in, for those who look at them.
func (w *Worker) keep(b *batch) {
	for i := range b.n {
		w.Taps.Keep(i, w.Pool.Base(b.frames[i].Addr), w.Pool.Bytes(b.frames[i]))
	}
}

// trace tells those who look how a frame's journey ended; out is the port it
// leaves by. A frame is traced before it is sent or freed.
func (w *Worker) trace(frame nic.Frame, out uint16, v *Verdict) {
	if w.watched {
		w.show(frame, out, v)
	}
}

// show is trace when somebody looks. The frame has the port it came in by.
func (w *Worker) show(frame nic.Frame, out uint16, v *Verdict) {
	chunk := w.Pool.Base(frame.Addr)
	if w.Trace != nil {
		w.Trace(chunk, *v)
	}
	if !w.tapped {
		return
	}
	p := tap.Packet{Reason: v.Reason, Op: uint8(v.Op), Port: frame.Port, Out: out, Queue: w.queue}
	// A memo's slots may be those of a snapshot that this worker has yet to see.
	if all := w.snapshot.Services(); v.Service < uint32(len(all)) {
		p.Service = uint32(all[v.Service].ID)
	}
	if all := w.snapshot.Backends(); v.Backend < uint32(len(all)) {
		p.Backend = uint32(all[v.Backend].ID)
	}
	bytes := w.Pool.Bytes(frame)
	if p.Came, p.CameLen = w.Taps.Kept(w.at, chunk); p.Came == nil && out == noPort {
		p.Came, p.CameLen = bytes, frame.Len
	}
	if out != noPort {
		p.Left = bytes
	}
	w.Taps.Note(&p)
}

// showLost shows a frame that could not be sent, as it is now.
func (w *Worker) showLost(frame nic.Frame, r reason.Reason) {
	w.Taps.Note(&tap.Packet{Came: w.Pool.Bytes(frame), CameLen: frame.Len, Reason: r, Port: frame.Port, Queue: w.queue, Altered: true})
}
