package watch

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/go-logr/logr"
)

// backoff is how soon a watch that failed is tried again: an API server that is
// back is met within seconds, and one that is away is asked a few times a minute.
var backoff = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 5 * time.Second}

// Run follows the objects until ctx ends. It is called once.
func (o *Objects[T]) Run(ctx context.Context) error {
	defer o.forget()
	for ctx.Err() == nil {
		o.reflect(ctx)
	}
	return nil
}

// reflect follows the objects until ctx ends, or they have to be listed anew.
func (o *Objects[T]) reflect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.mu.Lock()
	o.again = cancel
	o.mu.Unlock()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { o.compareTimes(ctx) })
	logger := logr.FromSlogHandler(demoted{o.conn.log.Handler()})
	var example T
	again := backoff
	r := cache.NewReflectorWithOptions(listWatch[T]{o}, example, reflected[T]{o}, cache.ReflectorOptions{
		Name: o.resource.FullName(), Logger: &logger, Backoff: &again,
	})
	r.RunWithContext(klog.NewContext(ctx, logger))
}

// options are those that every request for the resource has.
func (o *Objects[T]) options() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: o.resource.Labels, FieldSelector: o.resource.Fields}
}

// listWatch is what the reflector asks by. It notes how each request goes.
type listWatch[T Object] struct{ o *Objects[T] }

// List implements cache.ListerWatcher.
func (l listWatch[T]) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

// Watch implements cache.ListerWatcher.
func (l listWatch[T]) Watch(options metav1.ListOptions) (apiwatch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

// ListWithContext implements cache.ListerWithContext.
func (l listWatch[T]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	options.LabelSelector, options.FieldSelector = l.o.resource.Labels, l.o.resource.Fields
	list, err := l.o.lister.list(ctx, options)
	if err != nil {
		l.o.failed(err)
	}
	return list, err
}

// WatchWithContext implements cache.WatcherWithContext.
func (l listWatch[T]) WatchWithContext(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	options.LabelSelector, options.FieldSelector = l.o.resource.Labels, l.o.resource.Fields
	w, err := l.o.lister.watch(ctx, options)
	switch {
	case err == nil && options.SendInitialEvents == nil:
		l.o.conn.succeeded(l.o.state)
	case err != nil:
		l.o.failed(err)
		if options.SendInitialEvents != nil && ctx.Err() == nil {
			// The reflector waits after a refused connection without looking at its
			// context, here alone. To it, this is an error like others.
			return nil, &opaque{err}
		}
	}
	return w, err
}

// opaque is an error whose causes are not to be looked at, but for an answer of the
// API server.
type opaque struct{ err error }

// Error implements error.
func (e *opaque) Error() string { return e.err.Error() }

// As implements what errors.As asks for.
func (e *opaque) As(target any) bool {
	switch target.(type) {
	case *apierrors.APIStatus:
		return errors.As(e.err, target)
	}
	return false
}

// failed notes how a request failed, and what follows from it.
func (o *Objects[T]) failed(err error) {
	o.conn.failed(o.state, err)
	if state, _ := judge(err); state == Missing && o.resource.Optional {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.nowSynced()
	}
}

// origin is how a change was learned of.
type origin struct {
	at                 time.Time
	relisted, restored bool
}

// reflected is what the reflector writes to.
type reflected[T Object] struct{ o *Objects[T] }

// Transformer implements cache.TransformingStore.
func (s reflected[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if t, ok := object.(T); ok {
			s.o.strip(t)
		}
		return object, nil
	}
}

func (o *Objects[T]) strip(object T) {
	object.SetManagedFields(nil)
	if o.resource.Strip != nil {
		o.resource.Strip(object)
	}
}

// Add implements cache.ReflectorStore.
func (s reflected[T]) Add(object any) error { return s.Update(object) }

// Update implements cache.ReflectorStore.
func (s reflected[T]) Update(object any) error {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	return s.o.put(object.(T), origin{at: s.o.conn.now()})
}

// put takes an object over. The caller holds mu.
func (o *Objects[T]) put(object T, from origin) error {
	o.strip(object)
	o.reached(object)
	old, there := o.Get(object.GetNamespace(), object.GetName())
	if o.resource.Keep != nil && !o.resource.Keep(object) {
		return o.drop(object, origin{at: from.at})
	}
	if err := o.store.Update(object); err != nil {
		return err
	}
	if there && o.same(old, object) {
		return nil
	}
	o.tell(Event[T]{Old: old, New: object, At: from.at, Relisted: from.relisted, Restored: from.restored})
	return nil
}

// reached notes the version of an object that is told of in the same breath. The
// caller holds mu.
func (o *Objects[T]) reached(object T) {
	if v := object.GetResourceVersion(); o.HasSynced() && earlier(o.version, v) {
		o.version = v
	}
}

func (o *Objects[T]) same(old, new T) bool {
	if old.GetUID() == new.GetUID() && old.GetResourceVersion() == new.GetResourceVersion() {
		return true
	}
	return o.resource.Same != nil && o.resource.Same(old, new)
}

// Delete implements cache.ReflectorStore.
func (s reflected[T]) Delete(object any) error {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	return s.o.drop(object.(T), origin{at: s.o.conn.now()})
}

// drop forgets an object. The caller holds mu.
func (o *Objects[T]) drop(object T, from origin) error {
	o.reached(object)
	old, there := o.Get(object.GetNamespace(), object.GetName())
	if !there {
		return nil
	}
	if err := o.store.Delete(old); err != nil {
		return err
	}
	o.tell(Event[T]{Old: old, At: from.at, Relisted: from.relisted, Restored: from.restored})
	return nil
}

// Replace implements cache.ReflectorStore.
func (s reflected[T]) Replace(list []any, version string) error {
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	from := origin{at: o.conn.now(), relisted: o.HasSynced(), restored: earlier(version, o.version)}
	if from.restored {
		o.conn.log.Error("the database of Kubernetes has been put back to an earlier time", "objects", o.resource.FullName(), "version", version, "known", o.version)
	}
	there := make(map[types.NamespacedName]bool, len(list))
	for _, one := range list {
		object, ok := one.(T)
		if !ok {
			continue
		}
		there[types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}] = true
		if err := o.put(object, from); err != nil {
			return err
		}
	}
	for _, object := range o.List() {
		if !there[types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}] {
			if err := o.drop(object, from); err != nil {
				return err
			}
		}
	}
	o.version = version
	o.conn.synced(o.state)
	o.conn.succeeded(o.state)
	o.nowSynced()
	return nil
}

// UpdateResourceVersion implements cache.ResourceVersionUpdater.
func (s reflected[T]) UpdateResourceVersion(version string) {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.o.version = version
}

// Resync implements cache.ReflectorStore.
func (s reflected[T]) Resync() error { return nil }

// eachOf calls f for each object of a list; it returns where the next page begins.
func eachOf(list runtime.Object, f func(namespace, name string)) (next string, err error) {
	m, err := meta.ListAccessor(list)
	if err != nil {
		return "", err
	}
	err = meta.EachListItem(list, func(item runtime.Object) error {
		object, err := meta.Accessor(item)
		if err != nil {
			return err
		}
		f(object.GetNamespace(), object.GetName())
		return nil
	})
	return m.GetContinue(), err
}
