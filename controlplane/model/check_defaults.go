package model

import "time"

// Defaults of a health check. A backend that stops answering is found dead
// after at most Fall intervals, a jitter and a timeout: some seven seconds.
const (
	DefaultCheckInterval = 2 * time.Second
	DefaultCheckTimeout  = time.Second // or the interval, when that is shorter
	DefaultCheckRise     = 2
	DefaultCheckFall     = 3
	DefaultCheckJitter   = 10 // per cent
)

// Bounds of a health check.
const (
	MinCheckInterval = 50 * time.Millisecond
	MaxCheckInterval = time.Hour
	MinCheckTimeout  = 5 * time.Millisecond
	MaxCheckCount    = 100 // of Rise and Fall
	MaxCheckJitter   = 50  // per cent
	MaxCheckText     = 1024
	MaxCheckDatagram = 1200 // bytes of UDP payload that pass every path
	MaxCheckCommand  = 64   // program and arguments
	MaxSlowStart     = 24 * time.Hour
)

// DefaultStatus are the HTTP status codes that a check takes for success when
// it names none: everything but errors.
var DefaultStatus = []StatusRange{{200, 399}}

// ExpectAnyRCode is the RCode of a DNS check that any answer satisfies.
const ExpectAnyRCode = "ANY"

// WithDefaults returns a copy of the check in which everything left out is
// filled in. The check itself is not changed; the copy shares its lists.
func (c *Check) WithDefaults() *Check {
	out := *c
	if out.Type == "" {
		out.Type = CheckTCP
	}
	if out.Path == "" {
		out.Path = PathAuto
	}
	if out.Interval == 0 {
		out.Interval = DefaultCheckInterval
	}
	if out.Timeout == 0 {
		out.Timeout = min(DefaultCheckTimeout, out.Interval)
	}
	if out.Rise == 0 {
		out.Rise = DefaultCheckRise
	}
	if out.Fall == 0 {
		out.Fall = DefaultCheckFall
	}
	if out.Jitter == 0 {
		out.Jitter = DefaultCheckJitter
	}
	switch out.Type {
	case CheckHTTP, CheckHTTPS:
		if out.HTTP.Method == "" {
			out.HTTP.Method = "GET"
		}
		if out.HTTP.Path == "" {
			out.HTTP.Path = "/"
		}
		if len(out.HTTP.Status) == 0 {
			out.HTTP.Status = DefaultStatus
		}
	case CheckDNS:
		if out.DNS.Name == "" {
			out.DNS.Name = "."
		}
		if out.DNS.Type == "" {
			out.DNS.Type = "A"
			if out.DNS.Name == "." {
				out.DNS.Type = "NS"
			}
		}
		if out.DNS.RCode == "" {
			out.DNS.RCode = "NOERROR"
		}
	}
	return &out
}

// NeedsPort reports whether a check of that type asks a port.
func (t CheckType) NeedsPort() bool { return t != CheckICMP && t != CheckExec }

// UsesTLS reports whether the check speaks TLS.
func (c *Check) UsesTLS() bool {
	return c.Type == CheckHTTPS || c.Type == CheckTLS || c.Type == CheckGRPC && c.GRPC.UseTLS
}

// poolsWithDefaults fills in what the checks of pools leave out. Without any
// check it is the list itself.
func poolsWithDefaults(pools []Pool) []Pool {
	for i := range pools {
		if pools[i].Check == nil {
			continue
		}
		out := make([]Pool, len(pools))
		copy(out, pools)
		for j := i; j < len(out); j++ {
			if out[j].Check != nil {
				out[j].Check = out[j].Check.WithDefaults()
			}
		}
		return out
	}
	return pools
}
