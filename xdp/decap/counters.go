package decap

import "fmt"

// Counters are the interface's frames by what became of them. Every frame the
// program has seen is in exactly one.
type Counters struct {
	Passed uint64 // to the host: no tunnel packet

	// Decapsulated, by what was inside what.
	IPIP4in4  uint64
	IPIP6in4  uint64 // IPv6 in IPv4
	IPIP4in6  uint64 // IPv4 in IPv6
	IPIP6in6  uint64
	GUE       uint64 // GUE variant 0
	GUEDirect uint64 // GUE variant 1: an IP packet directly in UDP

	// Tunnel packets left to the host.
	NotVIP   uint64 // the inner destination is none of our VIPs
	Fragment uint64 // the outer packet is a fragment
	Options  uint64 // the outer IPv4 header has options

	// Dropped.
	RejectedSource uint64 // not from one of our load balancers
	Malformed      uint64 // lengths, versions or outer checksum wrong, or GUE of an unknown kind
	ECNDropped     uint64 // congestion mark on a packet that cannot carry it (RFC 6040)
	Failed         uint64 // the driver refused to move the frame's start
}

// Decapsulated is the sum of all packets that were decapsulated.
func (c Counters) Decapsulated() uint64 {
	return c.IPIP4in4 + c.IPIP6in4 + c.IPIP4in6 + c.IPIP6in6 + c.GUE + c.GUEDirect
}

// Named calls yield with each counter's stable snake_case name and value, in
// the order of the fields, until it returns false.
func (c Counters) Named(yield func(name string, value uint64) bool) {
	for i, to := range c.byOutcome() {
		if !yield(names[i], *to) {
			return
		}
	}
}

// names are in the order of byOutcome.
var names = [...]string{
	"passed",
	"ipip_4in4", "ipip_6in4", "ipip_4in6", "ipip_6in6", "gue", "gue_direct",
	"not_vip", "fragment", "options",
	"rejected_source", "malformed", "ecn_dropped", "failed",
}

// byOutcome lists the counters in the order of enum outcome in bpf/decap.c.
func (c *Counters) byOutcome() [len(names)]*uint64 {
	return [...]*uint64{
		&c.Passed,
		&c.IPIP4in4, &c.IPIP6in4, &c.IPIP4in6, &c.IPIP6in6, &c.GUE, &c.GUEDirect,
		&c.NotVIP, &c.Fragment, &c.Options,
		&c.RejectedSource, &c.Malformed, &c.ECNDropped, &c.Failed,
	}
}

// Counters reads the program's counters.
func (d *Decap) Counters() (Counters, error) {
	var c Counters
	for outcome, to := range c.byOutcome() {
		var perCPU []uint64
		if err := d.objects.Counts.Lookup(uint32(outcome), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read counters of %s: %w", d.attached.Name, err)
		}
		for _, n := range perCPU {
			*to += n
		}
	}
	return c, nil
}
