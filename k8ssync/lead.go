package k8ssync

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/gateway"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/translate"
	"fairlead/k8ssync/v1alpha1"
	"fairlead/k8ssync/watch"
	"fairlead/k8ssync/writer"
)

// How many requests a second the node that writes may make. The API server has
// limits of its own, by flow; these are there for what goes wrong here.
const (
	writeRate  = 200
	writeBurst = 400
)

// policyName is the ConfigMap by which the admission policy knows all pools.
const policyName = "fairlead-addresses"

// addresses are who holds which address, with news of pools and reservations as
// soon as it is known who holds what.
type addresses struct {
	*allocate.Allocator
	begun chan struct{} // closed when Sync has succeeded
}

// Sync implements writer.Addresses.
func (a *addresses) Sync(ctx context.Context, all []allocate.Request) error {
	if err := a.Allocator.Sync(ctx, all); err != nil {
		return err
	}
	close(a.begun)
	return nil
}

// follow tells the allocator what happens to pools and reservations, and has it keep
// the statuses of pools, until ctx ends.
func (l *leader) follow(ctx context.Context) {
	select {
	case <-l.addresses.begun:
	case <-ctx.Done():
		return
	}
	defer l.pools.Subscribe(func(e watch.Event[*v1alpha1.AddressPool]) { l.addresses.PoolEvent(e.Old, e.New) })()
	defer l.reserved.Subscribe(func(e watch.Event[*v1alpha1.AddressReservation]) { l.addresses.ReservationEvent(e.Old, e.New) })()
	l.addresses.Run(ctx)
}

// leader is what a node has while it writes.
type leader struct {
	*Sync
	core       *kubernetes.Clientset
	ours       *v1alpha1.Client
	addresses  *addresses
	writer     *writer.Writer
	gateways   *gateway.Writer // nil: the Gateway API is not served
	events     atomic.Pointer[writer.Events]
	namespaces *watch.Objects[*metav1.PartialObjectMetadata]
	pools      *watch.Objects[*v1alpha1.AddressPool]
	reserved   *watch.Objects[*v1alpha1.AddressReservation]
}

// lead writes until ctx ends.
func (s *Sync) lead(ctx context.Context) {
	l, err := s.newLeader()
	if err != nil {
		// Of settings that the connection has been made of there is none.
		s.writeFailed()
		s.log.Error("this node cannot write to Kubernetes", "error", err)
		return
	}
	s.leader.Store(l)
	defer s.leader.Store(nil)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = l.namespaces.Run(ctx) })
	running.Go(func() { _ = l.pools.Run(ctx) })
	running.Go(func() { _ = l.reserved.Run(ctx) })
	running.Go(func() { l.follow(ctx) })
	if l.gateways != nil {
		running.Go(func() { l.writeGateways(ctx) })
	}
	select {
	case <-l.namespaces.Synced(): // pools may be for some of them only
	case <-ctx.Done():
		return
	}
	defer l.objects.Services.Subscribe(func(e watch.Event[*corev1.Service]) { l.writer.Touch(translate.KeyOf(e.Object())) })()
	defer l.objects.Slices.Subscribe(func(e watch.Event[*discoveryv1.EndpointSlice]) {
		o := e.Object()
		l.writer.TouchLater(kube.Key{Kind: kube.Service, Namespace: o.Namespace, Name: watch.ServiceOf(o)})
	})()
	defer l.namespaces.Subscribe(func(e watch.Event[*metav1.PartialObjectMetadata]) {
		if e.New != nil {
			l.writer.TouchUnserved()
		}
	})()
	l.writer.Run(ctx)
}

func (s *Sync) newLeader() (*leader, error) {
	l := &leader{Sync: s}
	cfg := rest.CopyConfig(s.conn.REST())
	cfg.QPS, cfg.Burst = writeRate, writeBurst
	var err error
	if l.core, err = kubernetes.NewForConfigAndClient(cfg, s.conn.HTTP()); err != nil {
		return nil, err
	}
	if l.ours, err = v1alpha1.NewClientFor(cfg, s.conn.HTTP()); err != nil {
		return nil, err
	}
	if l.namespaces, err = watch.New(s.conn, watch.Namespaces()); err != nil {
		return nil, err
	}
	if l.pools, err = watch.New(s.conn, watch.Resource[*v1alpha1.AddressPool]{
		GroupVersion: v1alpha1.SchemeGroupVersion, Name: "addresspools", AddToScheme: v1alpha1.AddToScheme, JSON: true,
	}); err != nil {
		return nil, err
	}
	if l.reserved, err = watch.New(s.conn, watch.Resource[*v1alpha1.AddressReservation]{
		GroupVersion: v1alpha1.SchemeGroupVersion, Name: "addressreservations", AddToScheme: v1alpha1.AddToScheme, JSON: true,
	}); err != nil {
		return nil, err
	}
	l.addresses = &addresses{begun: make(chan struct{})}
	l.addresses.Allocator, err = allocate.New(allocate.Config{
		Client: l.ours, Pools: s.cfg.Settings.Pools, Owner: l.owner, Changed: l.changed,
		Policy: &allocate.Policy{ConfigMaps: l.core.CoreV1().ConfigMaps(s.cfg.Settings.LeaseNamespace), Name: policyName, Lease: s.cfg.Settings.LeaseName, Class: s.cfg.Settings.Class, DefaultClass: s.cfg.Settings.DefaultClass},
		Failed: s.writeFailed, Log: s.log, Now: s.now,
	})
	if err != nil {
		return nil, err
	}
	var others func(context.Context) ([]writer.Request, error)
	if s.routes != nil {
		others = s.routes.Requests
		l.gateways, err = gateway.NewWriter(gateway.WriterConfig{
			Room: s.routes, Addresses: l.addresses.Allocator, Fellows: s.cfg.Fellows, Tell: l.tell,
			Resync: s.cfg.Settings.Resync, Failed: s.writeFailed, Log: s.log, Now: s.now,
		})
		if err != nil {
			return nil, err
		}
	}
	l.writer, err = writer.New(writer.Config{
		Client: l.core, Others: others, Earlier: l.addresses.EarlierClasses, Addresses: l.addresses, Read: l.read, Fellows: s.cfg.Fellows, Failed: s.writeFailed, Log: s.log, Resync: s.cfg.Settings.Resync,
		Service: func(namespace, name string) *corev1.Service {
			svc, _ := s.objects.Services.Get(namespace, name)
			return svc
		},
		Keys: func() []kube.Key {
			list := s.objects.Services.List()
			keys := make([]kube.Key, len(list))
			for i, svc := range list {
				keys[i] = translate.KeyOf(svc)
			}
			return keys
		},
		Namespace: func(name string) map[string]string {
			if ns, there := l.namespaces.Get("", name); there {
				return ns.Labels
			}
			return nil
		},
	})
	return l, err
}

// read reads a Service for the writer.
func (l *leader) read(svc *corev1.Service) writer.Reading {
	in, problems := l.Input(svc)
	out := translate.Service(in)
	r := writer.Reading{
		Ours: translate.Serves(svc, l.cfg.Settings), Options: in.Options, IPMode: out.IPMode, Problems: append(problems, out.Problems...),
	}
	for _, p := range out.PortErrors {
		r.Ports = append(r.Ports, writer.PortError(p))
	}
	return r
}

// owner asks the API server whether an object is to have addresses.
func (l *leader) owner(ctx context.Context, key kube.Key) (allocate.Owner, error) {
	if key.Kind == kube.Gateway {
		if l.routes == nil {
			return allocate.Owner{Wants: true}, nil // nobody here knows
		}
		wants, err := l.routes.Wants(ctx, key)
		return allocate.Owner{Wants: wants}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	svc, err := l.core.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return allocate.Owner{}, nil
	case err != nil:
		return allocate.Owner{}, fmt.Errorf("get %s: %w", key, err)
	}
	return allocate.Owner{Wants: translate.Serves(svc, l.cfg.Settings) && svc.DeletionTimestamp == nil}, nil
}

// writeGateways writes what the Gateway API's objects are told, as soon as it is
// known who holds which address.
func (l *leader) writeGateways(ctx context.Context) {
	select {
	case <-l.addresses.begun:
	case <-ctx.Done():
		return
	}
	known := runtime.NewScheme()
	if err := gatewayv1.Install(known); err != nil {
		l.log.Error("no Events of Gateways are written", "error", err)
	} else {
		events := writer.NewEvents(l.core, known, l.log)
		defer events.Close()
		l.events.Store(events)
		defer l.events.Store(nil)
	}
	l.gateways.Run(ctx)
}

// tell makes an Event of a problem of an object of the Gateway API.
func (l *leader) tell(about runtime.Object, p kube.Problem) {
	if object, is := about.(writer.Object); is {
		if events := l.events.Load(); events != nil {
			events.Tell(object, p, writer.ActionRead)
		}
	}
}

// changed has objects looked at again whose reservations have changed, and those that
// have got nothing.
func (l *leader) changed(keys []kube.Key) {
	for _, key := range keys {
		if key.Kind == kube.Gateway && l.gateways != nil {
			l.gateways.Touch()
			continue
		}
		l.writer.Touch(key)
	}
	l.writer.TouchUnserved()
	if l.gateways != nil {
		l.gateways.TouchUnserved()
	}
}
