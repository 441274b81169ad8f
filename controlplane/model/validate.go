package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds that Validate holds a state to.
const (
	// MaxTimeout is the longest idle time of a flow. The flow table's clock
	// counts milliseconds in 31 bits, a little under 25 days.
	MaxTimeout = 24 * 24 * time.Hour
	// MinTimeout is the shortest idle time of a flow.
	MinTimeout = time.Second
	// MaxLocals is the most addresses (VIPs, SNAT addresses, tunnel sources)
	// one node has.
	MaxLocals = 65000
	// MaxPoolBackends is the most backends of one pool.
	MaxPoolBackends = 65535
	// MaxServices is the most services of one node.
	MaxServices = 1 << 20
	// MaxBackends is the most backends of all pools together.
	MaxBackends = 1 << 22
	// MaxNameLength is the longest name of a service, pool or backend in bytes.
	MaxNameLength = 253
	// MaxFragmentHold is the most frames a worker may hold for want of their
	// first fragment.
	MaxFragmentHold = 1 << 16
	// MaxReplyRate is the highest rate, and burst, of a worker's own replies.
	MaxReplyRate = 1 << 24
)

// Kinds of object that an Error points to.
const (
	KindVIP     = "vip"
	KindSNAT    = "snat"
	KindTunnel  = "tunnel"
	KindLimits  = "limits"
	KindPool    = "pool"
	KindService = "service"
)

// kindOrder is the order in which Validate reports.
var kindOrder = map[string]int{KindVIP: 0, KindSNAT: 1, KindTunnel: 2, KindLimits: 3, KindPool: 4, KindService: 5}

// Error says what is wrong with one field of a State. Whoever read the state
// from a file maps Kind, Index, Sub and Field to a position in it.
type Error struct {
	Kind    string // one of the Kinds
	Index   int    // index in the State's list of that kind; 0 for tunnel and limits
	Sub     int    // pool: index of the backend; otherwise -1
	Field   string // name of the field as the configuration file has it, "timeouts.udp" for a nested one
	Message string // complete without the path: it names the object
	Rival   string // the service that has what this one wants; "": there is none
}

// Path is where the field is, such as service[2].port, pool[0].backend[3].weight
// or tunnel.ttl.
func (e *Error) Path() string {
	var b strings.Builder
	b.WriteString(e.Kind)
	if e.Kind != KindTunnel && e.Kind != KindLimits {
		fmt.Fprintf(&b, "[%d]", e.Index)
	}
	if e.Sub >= 0 {
		fmt.Fprintf(&b, ".backend[%d]", e.Sub)
	}
	b.WriteByte('.')
	b.WriteString(e.Field)
	return b.String()
}

// Error gives path and message.
func (e *Error) Error() string { return e.Path() + ": " + e.Message }

// Validate checks everything about a state that can be checked without looking
// at the node, and returns all that is wrong, in the order VIPs, SNAT
// addresses, tunnel, limits, pools, services. Every error is an *Error. A
// field left out has its default (WithDefaults) and is right.
func Validate(s *State) []error {
	v := &validator{state: s.WithDefaults()}
	v.vips()
	v.snats()
	v.tunnel()
	v.limits()
	v.pools()
	v.services()
	v.ownership()
	return v.sorted()
}

// sorted are the errors in the order of Validate.
func (v *validator) sorted() []error {
	slices.SortStableFunc(v.errs, func(a, b *Error) int {
		if d := kindOrder[a.Kind] - kindOrder[b.Kind]; d != 0 {
			return d
		}
		if d := a.Index - b.Index; d != 0 {
			return d
		}
		return a.Sub - b.Sub
	})
	out := make([]error, len(v.errs))
	for i, e := range v.errs {
		out[i] = e
	}
	return out
}

// validator carries one run of Validate.
type validator struct {
	state *State // with defaults
	errs  []*Error
}

func (v *validator) report(kind string, index, sub int, field, format string, args ...any) {
	v.errs = append(v.errs, &Error{Kind: kind, Index: index, Sub: sub, Field: field, Message: fmt.Sprintf(format, args...)})
}
