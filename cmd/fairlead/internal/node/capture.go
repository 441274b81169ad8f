package node

import (
	"context"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

// Limits of captures.
const (
	capturesAtOnce = 2
	packetsInChunk = 64
)

// Capture implements api.PacketProvider.
func (n *Node) Capture(ctx context.Context, q api.CaptureQuery, send func(api.CaptureChunk) error) error {
	filter, err := n.packetFilter(&q.PacketFilter, tap.Ending(reason.Drop, reason.Pass, reason.Transmit), "end the journey of")
	if err != nil {
		return err
	}
	filter.Snap, filter.Every = uint32(q.Snap), uint32(q.Sample)
	switch q.Direction {
	case "received":
		filter.Flags = tap.Received
	case "sent":
		filter.Flags = tap.Sent
	default:
		filter.Flags = tap.Received | tap.Sent
	}
	begun := n.memosWhile(&filter, q.KeepMemos)
	give, err := n.taps.take(n.taps.captures, "%d captures are under way already", capturesAtOnce)
	if err != nil {
		return err
	}
	defer give()
	p, err := n.taps.openTap(filter)
	if err != nil {
		return tooMany(err)
	}
	defer p.close()
	if err := p.inForce(ctx); err != nil {
		return api.Errorf(api.Unavailable, "%v", err)
	}
	look := n.packetLook()
	begun.Interfaces = look.interfaces
	if err := send(api.CaptureChunk{Begun: &begun}); err != nil {
		return err
	}
	c := &capture{tap: p, look: look, left: q.Count, send: send}
	why, err := c.run(ctx, time.Duration(q.Duration))
	if err != nil || ctx.Err() != nil {
		return err
	}
	total := p.total()
	return send(api.CaptureChunk{End: &api.CaptureEnd{Why: why, Matched: total.Matched, Frames: uint64(q.Count - c.left), Lost: total.Lost}})
}

// memosWhile says what becomes of the flows that the XDP program forwards, and
// has the filter see to it.
func (n *Node) memosWhile(f *tap.Filter, keep bool) api.CaptureBegin {
	concerned := f.Reasons.Has(reason.ForwardFlow) || f.Reasons.Has(reason.ReplyFlow)
	switch _, there := n.steer.Memo(); {
	case !there || !concerned:
		return api.CaptureBegin{Memos: "none"}
	case keep:
		return api.CaptureBegin{Memos: "kept"}
	}
	f.Flags |= tap.AllPaths
	return api.CaptureBegin{Memos: "off"}
}

// capture sends packets until it has enough.
type capture struct {
	tap  *packetTap
	look *packetLook
	left int
	send func(api.CaptureChunk) error
}

// run sends packets until there are enough, or the time is over.
func (c *capture) run(ctx context.Context, length time.Duration) (why string, err error) {
	over := time.NewTimer(length)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", nil
		case <-c.tap.some:
			if err := c.forward(); err != nil {
				return "", err
			}
		case <-over.C:
			c.tap.taps.round() // what the workers have shown until now
			return "duration", c.forward()
		}
		if c.left == 0 {
			return "count", nil
		}
	}
}

// forward sends what is there.
func (c *capture) forward() error {
	list, err := c.tap.take()
	if err != nil {
		return api.Errorf(api.Unavailable, "%v", err)
	}
	list = list[:min(len(list), c.left)]
	c.left -= len(list)
	for len(list) > 0 {
		some := list[:min(packetsInChunk, len(list))]
		if err := c.send(api.CaptureChunk{Packets: c.look.packets(some)}); err != nil {
			return err
		}
		list = list[len(some):]
	}
	return nil
}
