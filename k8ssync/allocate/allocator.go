package allocate

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
)

const (
	// Manager is the field manager of all that is written.
	Manager = "fairlead"
	// ClaimTime is how long after Ensure an address may be written into a status.
	ClaimTime = 30 * time.Second
	// Grace is for how long what another writer has claimed is left alone.
	Grace = 2 * time.Minute
	// refreshClaim: a claim of our own that is younger is not made again.
	refreshClaim = 10 * time.Second
)

// Request is what an object asks for.
type Request = ledger.Request

// Assignment is what it gets.
type Assignment struct {
	// Addresses in the order of Request.Families. Empty: Problems say why. With
	// Problems: why these, and not what it asks for.
	Addresses []netip.Addr
	Problems  []kube.Problem
}

// Owner is an object as the API server has it now.
type Owner struct {
	// Wants: it is there, it is ours, and it is to have addresses. When not, what it
	// holds is given back.
	Wants bool
}

// Policy is the ConfigMap by which admission policies know the addresses of all
// pools, and the next writer which classes were served.
type Policy struct {
	ConfigMaps corev1client.ConfigMapInterface
	Name       string
	Lease      string // by whose name this installation is told from others
	Class      string // of the Services that are served
	// DefaultClass: Services without a class are ours.
	DefaultClass bool
}

// Config is what an Allocator needs.
type Config struct {
	Client *v1alpha1.Client
	// Pools are those of the node's settings. They come before objects of the same
	// name.
	Pools []kube.AddressPool
	// Owner asks the API server, and no cache, for an object. One that is not there
	// is no error.
	Owner func(context.Context, kube.Key) (Owner, error)
	// Changed is called when it is worth looking again at some objects, whose
	// reservations have changed, and at all that have got nothing. It is not to
	// block. May be nil.
	Changed func(keys []kube.Key)
	// Policy is told of all pools; nil: nobody is.
	Policy *Policy
	// Failed is called when something could not be written that nobody has asked for:
	// statuses of pools, or what the policy is told. May be nil.
	Failed func()
	Log    *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Grace in place of the constant, for tests; 0 is the constant.
	Grace time.Duration
}

// Allocator assigns addresses. Its methods may be called from several goroutines,
// but not for one key at the same time, and not during Sync.
type Allocator struct {
	cfg Config

	mu      sync.Mutex
	ledger  *ledger.Ledger
	seen    map[netip.Addr]seen // reservations as they were last seen
	pending map[netip.Addr]int  // of which writes are under way
	gone    map[types.UID]bool  // reservations that were deleted here
	alive   map[kube.Key]bool   // objects that somebody cares for

	pools     map[string]*v1alpha1.AddressPool
	poolError map[string]error // of pools: why it is not used
	dirty     chan struct{}    // pools' statuses may have changed
}

// New is an allocator that knows of nothing yet: Sync is called first.
func New(cfg Config) (*Allocator, error) {
	if cfg.Client == nil || cfg.Owner == nil || cfg.Log == nil {
		return nil, errors.New("allocate: a client, an owner function and a log are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Grace == 0 {
		cfg.Grace = Grace
	}
	if cfg.Changed == nil {
		cfg.Changed = func([]kube.Key) {}
	}
	if cfg.Failed == nil {
		cfg.Failed = func() {}
	}
	cfg.Pools = slices.Clone(cfg.Pools)
	return &Allocator{
		cfg:       cfg,
		ledger:    ledger.New(cfg.Pools),
		seen:      map[netip.Addr]seen{},
		pending:   map[netip.Addr]int{},
		gone:      map[types.UID]bool{},
		alive:     map[kube.Key]bool{},
		pools:     map[string]*v1alpha1.AddressPool{},
		poolError: map[string]error{},
		dirty:     make(chan struct{}, 1),
	}, nil
}

// Holds are the addresses that are reserved for an object, sorted: those that it is
// to have, and those that it has left and not released.
func (a *Allocator) Holds(key kube.Key) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Holds(key)
}

// Holder is what is recorded of an object at an address; false if nothing is.
func (a *Allocator) Holder(key kube.Key, address netip.Addr) (ledger.Holder, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, _ := a.ledger.Reservation(address)
	for _, h := range r.Holders {
		if h.Key == key {
			return h, true
		}
	}
	return ledger.Holder{}, false
}

// Pools are all pools that addresses are given out of and what is used of them, by name.
func (a *Allocator) Pools() []ledger.PoolStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Pools()
}

// touch has the statuses of pools looked at.
func (a *Allocator) touch() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}
