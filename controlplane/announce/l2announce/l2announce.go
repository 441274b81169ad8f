// Package l2announce tells the neighbours on a segment where this node's
// addresses are: by gratuitous ARP for IPv4 and by unsolicited neighbour
// advertisements for IPv6, when an address becomes this node's, a few times
// over, and from time to time afterwards. Questions for an address are answered
// by the data path and not here. It also listens for others that claim one of
// these addresses.
//
// One goroutine sends (run.go), by a schedule (schedule.go) and never faster
// than the configured rate; two listen (listen.go); one hears of changed
// interfaces (links.go).
package l2announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Place says on which interfaces an address is announced.
type Place string

// The places.
const (
	// Auto is the interfaces with a subnet that has the address. When none has,
	// it is all of them, for a neighbour's own route may still say that the
	// address is on the link; none for an address that is routed.
	Auto   Place = "auto"
	OnLink Place = "on-link" // the interfaces with a subnet that has the address, if any
	All    Place = "all"     // every interface
)

// Interface is one interface to announce on.
type Interface struct {
	Name string
	// MAC is announced in place of the interface's own address unless it is
	// zero.
	MAC [6]byte
}

// Config says how to announce.
type Config struct {
	Interfaces []Interface
	Place      Place
	// Repeat is how often an address that has become this node's is announced,
	// at least once, RepeatInterval apart: an announcement may be lost, and
	// nobody acknowledges it.
	Repeat         int
	RepeatInterval time.Duration
	// Refresh is how often an address is announced again after that; zero:
	// never. A router that has missed all announcements is right again then,
	// and not only when its own cache times out, which takes some hours.
	Refresh time.Duration
	// Rate bounds the frames that are sent in a second: switches bound what
	// they take of ARP.
	Rate int
	// Detect has others asked for the address whenever it is announced, but for
	// the first time, and tells of those who claim it.
	Detect bool
	// Grace is how long an address may be claimed by others before they are told of
	// as a conflict: where nodes take addresses over from each other, the one before
	// and the one after claim it for a moment.
	Grace time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Announcer announces a set of addresses until it is closed or its context
// ends.
type Announcer struct {
	cfg    Config
	links  *links
	socket *sender
	hear   *listener // nil without Detect
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the end; written before done is closed

	mu        sync.Mutex // guards what follows
	owned     map[netip.Addr]*address
	rivals    map[netip.Addr]*address // those that somebody else claims, too
	queues    schedule
	ports     []port
	macs      map[[6]byte]bool // of all ports: our own voice
	active    bool
	idleSince time.Time
	counters  Counters
}

// Address is an address that is this node's.
type Address struct {
	netip.Addr
	// Routed says that routers are told of it by a routing protocol: several
	// nodes may have it.
	Routed bool
}

// address is one address of this node, and how far its announcement is.
type address struct {
	Address
	turn      turn
	ports     []int // indexes into ports: where it is announced
	announced int   // rounds since it became ours or was to be announced anew
	last      time.Time
	rival     *Conflict // nil: nobody else claims it
	claim     *Conflict // who has claimed it for less than the grace; nil: nobody
}

// Start begins to announce, in the network namespace of the calling thread. No
// address is announced before SetAddresses and SetActive.
func Start(ctx context.Context, cfg Config) (*Announcer, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Repeat < 1 || cfg.Rate < 1 || cfg.RepeatInterval <= 0 || cfg.Refresh < 0 {
		return nil, fmt.Errorf("announce %d times every %v, refresh every %v, %d frames a second: out of range", cfg.Repeat, cfg.RepeatInterval, cfg.Refresh, cfg.Rate)
	}
	a := &Announcer{
		cfg: cfg, wake: make(chan struct{}, 1), done: make(chan struct{}),
		owned: make(map[netip.Addr]*address), rivals: make(map[netip.Addr]*address), idleSince: time.Now(),
	}
	var err error
	if a.socket, err = newSender(); err != nil {
		return nil, err
	}
	if a.links, err = watchLinks(cfg.Interfaces, cfg.Log, a.poke); err != nil {
		return nil, errors.Join(err, a.socket.close())
	}
	if cfg.Detect {
		if a.hear, err = listen(a.heard, cfg.Log); err != nil {
			return nil, errors.Join(err, a.links.close(), a.socket.close())
		}
	}
	ctx, a.cancel = context.WithCancel(ctx)
	go func() {
		defer close(a.done)
		defer a.cancel()
		a.run(ctx)
		errs := []error{a.links.close(), a.socket.close()}
		if a.hear != nil {
			errs = append(errs, a.hear.close())
		}
		a.err = errors.Join(errs...)
	}()
	return a, nil
}

// Close ends the announcements. Nothing is taken back: ARP has no way to.
func (a *Announcer) Close() error {
	a.cancel()
	<-a.done
	return a.err
}

// poke wakes run.
func (a *Announcer) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// SetAddresses makes addrs the addresses that are this node's. New ones are
// announced at once; those that stay are left alone.
func (a *Announcer) SetAddresses(addrs []Address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := make(map[netip.Addr]bool, len(addrs))
	now := time.Now()
	for _, addr := range addrs {
		addr.Addr = addr.Unmap()
		if !addr.IsValid() || wanted[addr.Addr] {
			continue
		}
		wanted[addr.Addr] = true
		if one := a.owned[addr.Addr]; one != nil {
			a.becomeRouted(one, addr.Routed, now)
			continue
		}
		one := &address{Address: addr}
		a.owned[addr.Addr] = one
		one.ports = place(a.cfg.Place, a.ports, addr)
		a.queues.put(one, classFirst, now)
	}
	for addr, one := range a.owned {
		if !wanted[addr] {
			a.queues.remove(one)
			delete(a.owned, addr)
			delete(a.rivals, addr)
		}
	}
	a.poke()
}

// becomeRouted has an address that stays announced elsewhere when routers are
// told of it, or no longer.
func (a *Announcer) becomeRouted(one *address, routed bool, now time.Time) {
	if one.Routed == routed {
		return
	}
	one.Routed = routed
	before := one.ports
	if one.ports = place(a.cfg.Place, a.ports, one.Address); !slices.Equal(one.ports, before) {
		a.again(one, now)
	}
}

// restAfter is how long the node may be inactive without its addresses being
// announced anew afterwards: nobody has taken them over in so short a time.
const restAfter = 2 * time.Second

// SetActive says whether the node forwards. While it does not, nothing is
// announced.
func (a *Announcer) SetActive(active bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if active == a.active {
		return
	}
	a.active = active
	switch now := time.Now(); {
	case !active:
		a.idleSince = now
	case now.Sub(a.idleSince) > restAfter:
		for _, one := range a.owned {
			a.again(one, now)
		}
	}
	a.poke()
}

// Renew has all addresses announced as if they had just become this node's:
// somebody else may have announced them since, and does so no longer.
func (a *Announcer) Renew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, one := range a.owned {
		one.rival, one.claim = nil, nil
		a.again(one, now)
	}
	clear(a.rivals)
	a.poke()
}

// again has an address announced as if it were new.
func (a *Announcer) again(one *address, now time.Time) {
	one.announced = 0
	a.queues.remove(one)
	a.queues.put(one, classFirst, now)
}

// Counters are totals since the start.
type Counters struct {
	Sent   uint64 // frames
	Failed uint64 // frames that could not be sent
	Rivals uint64 // claims by others that were heard
}

// Conflict is another host that claims one of this node's addresses.
type Conflict struct {
	Interface   string // of ours, on which it was heard
	MAC         [6]byte
	First, Last time.Time // when it was heard
}

// AddressStatus is how an address of this node is announced.
type AddressStatus struct {
	Address    netip.Addr
	Interfaces []string  // on which
	Announced  int       // rounds since it became this node's, or its interface has changed
	Last       time.Time // the zero time: not yet
	Conflict   *Conflict // nil: nobody else claims it
}

// Status tells how all addresses are announced, in their order.
func (a *Announcer) Status() ([]AddressStatus, Counters) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.describe(a.owned), a.counters
}

// Conflicts tells of the addresses that somebody else claims, too.
func (a *Announcer) Conflicts() []AddressStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.describe(a.rivals)
}

func (a *Announcer) describe(some map[netip.Addr]*address) []AddressStatus {
	list := make([]AddressStatus, 0, len(some))
	for _, one := range some {
		s := AddressStatus{Address: one.Addr, Announced: one.announced, Last: one.last}
		for _, i := range one.ports {
			s.Interfaces = append(s.Interfaces, a.ports[i].Name)
		}
		if one.rival != nil {
			rival := *one.rival
			s.Conflict = &rival
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b AddressStatus) int { return a.Address.Compare(b.Address) })
	return list
}
