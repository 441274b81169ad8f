package configs

import "time"

// ARP is how the addresses that this node answers for are announced on the
// segments that it is on, by ARP and neighbour discovery.
type ARP struct {
	Announce        bool
	Interfaces      ARPInterfaces
	Repeat          int
	RepeatInterval  time.Duration
	Refresh         time.Duration // 0: never
	Rate            int           // frames a second
	DetectConflicts bool
}

// ARPInterfaces says on which interfaces an address is announced.
type ARPInterfaces string

// The choices of interfaces.
const (
	ARPAuto   ARPInterfaces = "auto"    // as on-link, or all when no interface has a subnet with the address
	ARPOnLink ARPInterfaces = "on-link" // those with a subnet that has the address
	ARPAll    ARPInterfaces = "all"
)

// Bounds of [arp].
const (
	maxARPRepeat                   = 10
	minARPInterval, maxARPInterval = 100 * time.Millisecond, time.Minute
	minARPRefresh, maxARPRefresh   = time.Second, 24 * time.Hour
	minARPRate, maxARPRate         = 10, 100_000
)

// defaultARP is [arp] of an empty file.
func defaultARP() ARP {
	return ARP{Announce: true, Interfaces: ARPAuto, Repeat: 3, RepeatInterval: time.Second, Refresh: time.Minute, Rate: 2000, DetectConflicts: true}
}

func (r *reader) arp(t *table, a *ARP) {
	a.Announce = t.flag("announce", a.Announce)
	a.Interfaces = choice(t, "interfaces", a.Interfaces, ARPAuto, ARPOnLink, ARPAll)
	a.Repeat = t.integer("repeat", a.Repeat, 1, maxARPRepeat)
	a.RepeatInterval = t.duration("repeat_interval", a.RepeatInterval, minARPInterval, maxARPInterval, time.Millisecond)
	a.Refresh = t.duration("refresh", a.Refresh, 0, maxARPRefresh, time.Millisecond)
	if a.Refresh > 0 && a.Refresh < minARPRefresh {
		t.refuse("refresh", `%v is out of range; it must be "0s", or "1s" to "24h"`, a.Refresh)
	}
	a.Rate = t.integer("rate", a.Rate, minARPRate, maxARPRate)
	a.DetectConflicts = t.flag("detect_conflicts", a.DetectConflicts)
	t.finish()
}
