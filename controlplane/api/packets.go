package api

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// PacketProvider shows what becomes of packets.
type PacketProvider interface {
	// Drops says how many packets were dropped, and why.
	Drops(ctx context.Context) (Drops, error)
	// WatchDrops tells of drops as they happen, with samples, until ctx ends.
	WatchDrops(ctx context.Context, q DropQuery, send func(DropReport) error) error
	// Capture sends packets as they came in or as they leave.
	Capture(ctx context.Context, q CaptureQuery, send func(CaptureChunk) error) error
}

// Drops is how many packets were dropped since the node began, and why.
type Drops struct {
	Reasons  []DropCount    `json:"reasons" doc:"The most first; those that nothing was dropped for are left out."`
	Services []ServiceDrops `json:"services" doc:"Services that packets were dropped of, the most first."`
}

// DropCount is how many packets were dropped for one reason.
type DropCount struct {
	Where   string  `json:"where" enum:"worker,xdp,socket" doc:"Who dropped them: a worker, the XDP program before any worker saw them, or the kernel at a socket."`
	Reason  string  `json:"reason"`
	Packets uint64  `json:"packets"`
	Rate    float64 `json:"rate,omitempty" doc:"Packets per second since the last report."`
}

// ServiceDrops is how many packets of a service workers have dropped.
type ServiceDrops struct {
	Service string `json:"service"`
	Packets uint64 `json:"packets"`
}

// PacketFilter says which packets are asked for: those of which all of it is
// true.
type PacketFilter struct {
	Reasons []string      `query:"reason" doc:"Only packets whose journey ends with this reason; may be given several times."`
	Service string        `query:"service" doc:"Only packets of this service."`
	Backend string        `query:"backend" doc:"Only packets to or from this backend: its name, address, or address and port."`
	Client  *netip.Prefix `query:"client" doc:"Only packets of which one end is in this prefix."`
}

// DropQuery says which drops are watched.
type DropQuery struct {
	PacketFilter
	Interval Duration `query:"interval" doc:"How often it is said how many there were." default:"1s" minimum:"100ms" maximum:"1m"`
	Samples  int      `query:"samples" doc:"How many packets of each reason are shown per second and worker at most; 0: none." default:"5" minimum:"0" maximum:"1000"`
}

// DropReport is what has been dropped since the last report.
type DropReport struct {
	Time    time.Time   `json:"time"`
	Reasons []DropCount `json:"reasons,omitempty" doc:"With Packets since the last report; at every interval, and empty when nothing was dropped."`
	Samples []Packet    `json:"samples,omitempty"`
	Missed  uint64      `json:"missed,omitempty" doc:"Samples that were lost because they came too fast."`
	Begun   bool        `json:"begun,omitempty" doc:"In the first line: from here on, drops are seen."`
}

// Packet is one packet that a worker has handled.
type Packet struct {
	Time      time.Time `json:"time"`
	Worker    int       `json:"worker"`
	Interface string    `json:"interface"`
	Queue     int       `json:"queue" doc:"The interface's queue that the packet came by; -1 when it is sent."`
	Action    string    `json:"action" enum:"drop,pass,transmit"`
	Reason    string    `json:"reason"`
	Sent      bool      `json:"sent,omitempty" doc:"The frame is as it leaves, not as it came in."`
	Altered   bool      `json:"altered,omitempty" doc:"The frame was rewritten already when it was dropped."`
	Service   string    `json:"service,omitempty"`
	Backend   string    `json:"backend,omitempty"`
	Length    int       `json:"length" doc:"Of the frame, in bytes."`
	Summary   string    `json:"summary,omitempty" doc:"Its headers in one line."`
	Data      []byte    `json:"data" doc:"The frame's first bytes."`
}

// CaptureQuery says which packets are captured.
type CaptureQuery struct {
	PacketFilter
	Direction string   `query:"direction" doc:"Frames as they came in, as they leave, or both." default:"both" enum:"received,sent,both"`
	Count     int      `query:"count" doc:"After how many frames the capture ends." default:"1000" minimum:"1" maximum:"1000000"`
	Duration  Duration `query:"duration" doc:"After how long it ends." default:"30s" minimum:"100ms" maximum:"10m"`
	Snap      int      `query:"snaplen" doc:"How many bytes of each frame are captured at most." default:"4096" minimum:"14" maximum:"4096"`
	Sample    int      `query:"sample" doc:"One packet in so many is captured, at random." default:"1" minimum:"1" maximum:"1000000"`
	KeepMemos bool     `query:"keep_memos" doc:"Leave flows to the XDP program that forwards them by itself: their packets are not seen." default:"false"`
}

// CaptureChunk is a part of a capture.
type CaptureChunk struct {
	Begun   *CaptureBegin `json:"begun,omitempty" doc:"In the first line: from here on, packets are seen."`
	Packets []Packet      `json:"packets,omitempty"`
	End     *CaptureEnd   `json:"end,omitempty" doc:"In the last line."`
}

// CaptureBegin says what the node captures on.
type CaptureBegin struct {
	Interfaces []string `json:"interfaces"`
	Memos      string   `json:"memos" enum:"none,off,kept" doc:"Packets that the XDP program forwards by itself: there are none; the program leaves the flows in question to the workers meanwhile; or they are not seen."`
}

// CaptureEnd says how a capture went.
type CaptureEnd struct {
	Why     string `json:"why" enum:"count,duration"`
	Matched uint64 `json:"matched" doc:"Packets that the filter selected, before sampling. Those that come while the capture ends are among them."`
	Frames  uint64 `json:"frames" doc:"Frames that were captured."`
	Lost    uint64 `json:"lost" doc:"Frames that could not be captured because they came too fast."`
}

func (f *PacketFilter) query() map[string][]string {
	q := map[string][]string{}
	if len(f.Reasons) > 0 {
		q["reason"] = f.Reasons
	}
	if f.Service != "" {
		q["service"] = []string{f.Service}
	}
	if f.Backend != "" {
		q["backend"] = []string{f.Backend}
	}
	if f.Client != nil {
		q["client"] = []string{f.Client.String()}
	}
	return q
}

// Drops asks how many packets were dropped.
func (c *Client) Drops(ctx context.Context) (*Drops, error) {
	var d Drops
	return &d, c.Call(ctx, http.MethodGet, "/v1/drops", nil, nil, &d)
}

// WatchDrops calls send for what is dropped until ctx ends.
func (c *Client) WatchDrops(ctx context.Context, q DropQuery, send func(*DropReport) error) error {
	query := q.PacketFilter.query()
	query["interval"] = []string{q.Interval.String()}
	query["samples"] = []string{strconv.Itoa(q.Samples)}
	return Each(ctx, c, http.MethodGet, "/v1/drops/watch", query, nil, send)
}

// Capture calls send for the packets of a capture until it ends, or ctx does.
func (c *Client) Capture(ctx context.Context, q CaptureQuery, send func(*CaptureChunk) error) error {
	query := q.PacketFilter.query()
	query["direction"] = []string{q.Direction}
	query["count"] = []string{strconv.Itoa(q.Count)}
	query["duration"] = []string{q.Duration.String()}
	query["snaplen"] = []string{strconv.Itoa(q.Snap)}
	query["sample"] = []string{strconv.Itoa(q.Sample)}
	query["keep_memos"] = []string{strconv.FormatBool(q.KeepMemos)}
	return Each(ctx, c, http.MethodPost, "/v1/capture", query, nil, send)
}

func registerPackets(r *Router, node PacketProvider) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/drops", Role: ReadOnly, Tag: "packets", Summary: "How many packets were dropped, and why",
		Examples: []Example{{Path: "/v1/drops"}},
	}, func(ctx context.Context, _ struct{}) (Drops, error) { return node.Drops(ctx) })
	Stream(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/drops/watch", Role: ReadOnly, Tag: "packets", Summary: "Drops as they happen, with samples of headers",
		Description: "Samples are the first 128 bytes of frames that workers have dropped. Of those that the XDP program or the kernel drops there are only counts.",
		Examples:    []Example{{Path: "/v1/drops/watch"}, {Path: "/v1/drops/watch?interval=500ms&samples=1&reason=too_big&reason=tcp_flags_invalid&service=web&client=203.0.113.0/24"}},
	}, node.WatchDrops)
	Stream(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/capture", Role: Operator, Tag: "packets", Summary: "Capture packets",
		Description: "A capture ends by itself, after so many frames or so long, and when the client goes away. Two can be under way at a time. " +
			"Flows that the XDP program forwards by itself are left to the workers while they are captured, unless that is not wanted; " +
			"what the program drops, and what is passed to the host, is not seen.",
		Examples: []Example{{Path: "/v1/capture?count=1"}, {Path: "/v1/capture?reason=forward_new&service=web&backend=web1&client=203.0.113.0/24&direction=received&count=1&duration=1s&snaplen=64&sample=1&keep_memos=true"}},
	}, node.Capture)
}
