package k8ssync

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// The pace of attempts to put in force what the sink did not take at all.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Run keeps the node in step until ctx ends. It is called once.
func (s *Sync) Run(ctx context.Context) error {
	defer s.conn.Close()
	s.publisher = report.NewPublisher(s.cfg.Fellows, s.log)
	defer s.publisher.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.objects.run(ctx) })
	g.Go(func() error { return s.confirmHeld(ctx) })
	if s.routes != nil {
		g.Go(func() error { return s.routes.Run(ctx) })
	}
	g.Go(func() error { return s.write(ctx) })
	g.Go(func() error { return s.askVersion(ctx) })
	g.Go(func() error {
		for _, synced := range s.synced() {
			select {
			case <-synced:
			case <-ctx.Done():
				return nil
			}
		}
		return s.loop(ctx)
	})
	return g.Wait()
}

// loop puts in force what changes: the first change at once, and while that is on
// its way, those that come together. Everything has been seen once.
func (s *Sync) loop(ctx context.Context) error {
	defer s.subscribe()() // marks everything that there is
	resync := time.NewTicker(s.cfg.Settings.Resync)
	defer resync.Stop()
	look := time.NewTicker(refresh)
	defer look.Stop()
	var (
		pending = map[kube.Key]change{}
		first   = true
		retry   <-chan time.Time // nil: the last attempt was taken
		delay   = retryFirst
	)
	for {
		ready := s.dirty.ready
		if retry != nil {
			ready = nil // what comes meanwhile goes with the next attempt
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resync.C:
			s.dirty.markAll()
			continue
		case <-look.C:
			s.refresh()
			continue
		case <-ready:
		case <-retry:
		}
		through := s.versions() // before the keys: they are of these, at least
		s.collect(pending)
		if err := s.apply(pending, first, through); err != nil {
			retry, delay = time.After(delay), min(2*delay, retryMost)
			continue
		}
		s.report()
		pending, first, retry, delay = map[kube.Key]change{}, false, nil, retryFirst
	}
}

// synced are closed when everything has been seen once.
func (s *Sync) synced() []<-chan struct{} {
	list := s.objects.synced()
	if s.routes != nil {
		list = append(list, s.routes.Synced())
	}
	return list
}

// versions are how far what is marked has come.
func (s *Sync) versions() versions {
	v := versions{services: s.objects.Services.Version()}
	if s.routes != nil {
		v.gateways = s.routes.Version()
	}
	return v
}

// collect adds what has changed to pending.
func (s *Sync) collect(pending map[kube.Key]change) {
	keys, all := s.dirty.take()
	all = s.lookAtNodes() || all
	for key, c := range keys {
		put(pending, key, c)
	}
	if !all {
		return
	}
	c := change{at: s.now()}
	for _, svc := range s.objects.Services.List() {
		add(pending, kube.Key{Kind: kube.Service, Namespace: svc.Namespace, Name: svc.Name}, c)
	}
	for key := range s.entries {
		add(pending, key, c)
	}
	if s.routes != nil {
		for _, key := range s.routes.Keys() {
			add(pending, key, c)
		}
	}
}

func add(pending map[kube.Key]change, key kube.Key, c change) {
	if _, there := pending[key]; !there {
		pending[key] = c
	}
}
