package model

import "time"

// Defaults of single values.
const (
	DefaultGUEPort         = 6080            // the UDP port assigned to GUE
	DefaultTunnelTTL       = 64              // hops a tunnel packet may take
	DefaultAffinityTimeout = 3 * time.Hour   // as Kubernetes' ClientIP affinity
	DefaultDrainTimeout    = 5 * time.Minute // for flows of a removed backend
)

// NoDrain is a drain timeout with which a removed backend has no flows any more at
// once. Zero is the default; every drain timeout under a millisecond is this one.
const NoDrain = time.Nanosecond

// DefaultSNATPorts are the ports NAT flows leave from when a SNAT address names
// none: everything but the well-known ports.
var DefaultSNATPorts = PortRange{1024, 65535}

// DefaultTimeouts are the idle times of a service that names none. They are
// those of Linux conntrack, with one exception: an established TCP flow is
// kept for 2 hours and 4 minutes, the least that RFC 5382 (REQ-5) allows a
// translator, and not for five days, because established flows are never
// evicted and those whose end was lost would fill the table. TCP keepalive is
// two hours by default, so an idle connection that uses it is never forgotten.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCPSynSent:     2 * time.Minute,
		TCPEstablished: 2*time.Hour + 4*time.Minute,
		TCPFinWait:     2 * time.Minute,
		TCPClose:       10 * time.Second,
		UDP:            30 * time.Second,
		UDPStream:      2 * time.Minute,
		SCTP:           210 * time.Second,
		ICMP:           30 * time.Second,
	}
}

// DefaultLimits are the bounds that hold when the configuration names none.
func DefaultLimits() Limits {
	return Limits{
		FragmentHold:        256,
		FragmentHoldTimeout: 500 * time.Millisecond,
		FragmentTimeout:     5 * time.Second,
		ReplyRate:           1000,
		ReplyBurst:          200,
	}
}

// DefaultVIP is how the node treats a VIP that a service names and that is not
// listed among the VIPs.
func DefaultVIP() VIP {
	return VIP{FailAction: FailDrop, AnswerARP: true, AnswerPing: true, Announce: DefaultAnnounce()}
}

// WithDefaults returns a copy of the timeouts in which every zero is replaced
// by the value of d.
func (t Timeouts) WithDefaults(d Timeouts) Timeouts {
	pick := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	pick(&t.TCPSynSent, d.TCPSynSent)
	pick(&t.TCPEstablished, d.TCPEstablished)
	pick(&t.TCPFinWait, d.TCPFinWait)
	pick(&t.TCPClose, d.TCPClose)
	pick(&t.UDP, d.UDP)
	pick(&t.UDPStream, d.UDPStream)
	pick(&t.SCTP, d.SCTP)
	pick(&t.ICMP, d.ICMP)
	return t
}

// WithDefaults returns a copy of the limits in which every zero is replaced by
// its default.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.FragmentHold == 0 {
		l.FragmentHold = d.FragmentHold
	}
	if l.FragmentHoldTimeout == 0 {
		l.FragmentHoldTimeout = d.FragmentHoldTimeout
	}
	if l.FragmentTimeout == 0 {
		l.FragmentTimeout = d.FragmentTimeout
	}
	if l.ReplyRate == 0 {
		l.ReplyRate = d.ReplyRate
	}
	if l.ReplyBurst == 0 {
		l.ReplyBurst = d.ReplyBurst
	}
	return l
}

// WithDefaults returns a copy of the state in which everything left out is
// filled in: methods, policies, timeouts, health checks, SNAT ports, tunnel
// settings and limits. The state itself is not changed; the copy shares what has no
// defaults with it.
func (s *State) WithDefaults() *State {
	out := *s
	out.VIPs = make([]VIP, len(s.VIPs))
	for i, v := range s.VIPs {
		if v.FailAction == "" {
			v.FailAction = FailDrop
		}
		if v.Announce.Withdraw == "" {
			v.Announce.Withdraw = WithdrawAll
		}
		out.VIPs[i] = v
	}
	out.Services = make([]Service, len(s.Services))
	defaults := DefaultTimeouts()
	for i, v := range s.Services {
		if v.Method == "" {
			v.Method = NAT
		}
		if v.Gone == "" {
			v.Gone = GoneReset
		}
		if v.Affinity.Enabled && v.Affinity.Timeout == 0 {
			v.Affinity.Timeout = DefaultAffinityTimeout
		}
		if v.DrainTimeout == 0 {
			v.DrainTimeout = DefaultDrainTimeout
		}
		v.Timeouts = v.Timeouts.WithDefaults(defaults)
		out.Services[i] = v
	}
	out.Pools = poolsWithDefaults(s.Pools)
	out.SNATs = make([]SNAT, len(s.SNATs))
	for i, v := range s.SNATs {
		if v.Ports == (PortRange{}) {
			v.Ports = DefaultSNATPorts
		}
		out.SNATs[i] = v
	}
	if out.Tunnel.GUEPort == 0 {
		out.Tunnel.GUEPort = DefaultGUEPort
	}
	if out.Tunnel.TTL == 0 {
		out.Tunnel.TTL = DefaultTunnelTTL
	}
	out.Limits = s.Limits.WithDefaults()
	return &out
}
