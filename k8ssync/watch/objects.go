package watch

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Event is a change of one object. Objects are shared: nobody writes to them.
type Event[T Object] struct {
	Old, New T // nil: there was none; there is none any more
	// At is when this node learned of it.
	At time.Time
	// Relisted: the change was not seen when it happened. What the API server has
	// listed afterwards differed from what was known.
	Relisted bool
	// Restored: so it was, and that list is older than what was known: the API
	// server's database has been put back to an earlier time.
	Restored bool
}

// Object is the newest of the two.
func (e *Event[T]) Object() T {
	var none T
	if e.New != none {
		return e.New
	}
	return e.Old
}

// Objects are all objects of one resource, as the API server has told of them
// last. Its methods may be called from any goroutine.
type Objects[T Object] struct {
	resource Resource[T]
	conn     *Connection
	lister   lister
	state    *kindState
	forget   func() // takes state out of the connection's status
	store    cache.Indexer
	synced   chan struct{} // closed when all objects have been seen once
	back     flag          // raised when the API server was away and is there again

	mu       sync.Mutex // held for a change and while handlers are told of it
	version  string
	again    context.CancelFunc // ends the reflector's work, so that it begins anew
	handlers map[int]func(Event[T])
	next     int
}

// New prepares to follow a resource. Nothing is asked before Run, which is to be
// called: until the objects are followed there is no connection.
func New[T Object](c *Connection, r Resource[T]) (*Objects[T], error) {
	l, err := r.lister(c)
	if err != nil {
		return nil, err
	}
	o := &Objects[T]{
		resource: r, conn: c, lister: l, store: cache.NewIndexer(cache.MetaNamespaceKeyFunc, r.Indexers),
		synced: make(chan struct{}), back: make(flag, 1), handlers: map[int]func(Event[T]){},
	}
	o.state = &kindState{name: r.FullName(), rule: r.rule(), optional: r.Optional, count: func() int { return len(o.store.ListKeys()) }, returned: o.back.set}
	o.forget = c.follow(o.state)
	return o, nil
}

// Get finds an object; the namespace of one that has none is "".
func (o *Objects[T]) Get(namespace, name string) (T, bool) {
	return o.byKey(types.NamespacedName{Namespace: namespace, Name: name})
}

func (o *Objects[T]) byKey(key types.NamespacedName) (T, bool) {
	var none T
	found, ok, _ := o.store.GetByKey(storeKey(key))
	if !ok {
		return none, false
	}
	return found.(T), true
}

func storeKey(key types.NamespacedName) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.Namespace + "/" + key.Name
}

// List are all objects, in no order.
func (o *Objects[T]) List() []T { return typed[T](o.store.List()) }

// By are the objects that one of the resource's Indexers has under value.
func (o *Objects[T]) By(index, value string) []T {
	found, err := o.store.ByIndex(index, value)
	if err != nil {
		return nil // the resource has no such index: a mistake that every test of the caller meets
	}
	return typed[T](found)
}

func typed[T Object](list []any) []T {
	out := make([]T, len(list))
	for i := range list {
		out[i] = list[i].(T)
	}
	return out
}

// Len is how many objects there are.
func (o *Objects[T]) Len() int { return o.state.count() }

// Synced is closed when all objects have been seen at least once, or are known not
// to exist as a kind, where that is allowed.
func (o *Objects[T]) Synced() <-chan struct{} { return o.synced }

// HasSynced reports whether Synced is closed.
func (o *Objects[T]) HasSynced() bool {
	select {
	case <-o.synced:
		return true
	default:
		return false
	}
}

// Subscribe has f called for every object that there is, and then for every
// change, in their order. f is not to block, nor to subscribe.
func (o *Objects[T]) Subscribe(f func(Event[T])) (stop func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.conn.now()
	for _, object := range o.List() {
		f(Event[T]{New: object, At: now})
	}
	id := o.next
	o.next++
	o.handlers[id] = f
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.handlers, id)
	}
}

// Version is the resource version up to which everything is known, and handlers
// have been told of it; "" before Synced.
func (o *Objects[T]) Version() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.version
}

// tell tells the handlers. The caller holds mu.
func (o *Objects[T]) tell(e Event[T]) {
	for _, f := range o.handlers {
		f(e)
	}
}

func (o *Objects[T]) nowSynced() {
	if !o.HasSynced() {
		close(o.synced)
	}
}

// pageSize bounds the answers of Names.
const pageSize = 1000

// Names asks the API server, not the copies, which objects there are.
func (o *Objects[T]) Names(ctx context.Context) (map[types.NamespacedName]bool, error) {
	names := make(map[types.NamespacedName]bool)
	options := o.options()
	options.Limit = pageSize
	for {
		list, err := o.lister.list(ctx, options)
		if err != nil {
			return nil, err
		}
		next, err := eachOf(list, func(namespace, name string) {
			names[types.NamespacedName{Namespace: namespace, Name: name}] = true
		})
		if err != nil || next == "" {
			return names, err
		}
		options.Continue = next
	}
}
