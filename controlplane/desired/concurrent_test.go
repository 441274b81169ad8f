package desired

import (
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestAtOnce has everybody do everything at once: changes are made one at a
// time, each is a version of its own, and whoever looks sees whole ones.
func TestAtOnce(t *testing.T) {
	var (
		mu      sync.Mutex
		inForce []uint64
	)
	s := Open(Config{Directory: t.TempDir(), RemovalGuard: 100, Parse: parse})
	if _, err := s.Begin(declaration(SourceFile, state(pool("web", 1, 2))), nil); err != nil {
		t.Fatal(err)
	}
	s.Attach(func(d *Desired) error {
		mu.Lock()
		defer mu.Unlock()
		inForce = append(inForce, d.Version.Number)
		return nil
	})
	const each = 15
	var wg sync.WaitGroup
	for _, source := range []string{"a", "b", SourceAPI} {
		wg.Go(func() {
			for n := range each {
				if _, err := s.Declare(declaration(source, state(pool(source, n+1))), Request{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range each {
			to := []model.AdminState{model.Drained, model.Disabled}[n%2]
			if _, err := s.SetBackend("web", "198.18.10.1", Action{State: to}, Request{}); err != nil {
				t.Error(err)
			}
		}
	})
	over := make(chan struct{})
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				s.Tick()
				st, d, h := s.Status(), s.Current(), s.History()
				if st.Version == 0 || d.Version.Number < st.Version || h[0].Number < d.Version.Number {
					t.Errorf("status %d, current %d, history %d", st.Version, d.Version.Number, h[0].Number)
				}
				for _, p := range d.State.Pools {
					if d.Declarations[SourceFile] == nil || len(p.Backends) == 0 {
						t.Errorf("version %d is not whole", d.Version.Number)
					}
				}
			}
		})
	}
	wg.Wait()
	close(over)
	watchers.Wait()
	for i, n := range inForce {
		if n != uint64(i+2) {
			t.Fatalf("versions came into force as %v", inForce)
		}
	}
	if len(inForce) != 4*each {
		t.Errorf("%d versions", len(inForce))
	}
	if d := Open(Config{Directory: s.cfg.Directory, Parse: parse}).Current(); d.Version.Number != uint64(1+len(inForce)) || time.Since(d.Version.Time) > time.Hour {
		t.Errorf("on disk is %+v", d.Version)
	}
}
