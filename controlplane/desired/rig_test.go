package desired

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/controlplane/model"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// jsonText is how tests write declarations: the state in JSON.
func jsonText(s *model.State) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return text
}

// textOnly gives findings the name of their text as their place.
type textOnly struct{ name string }

func (d textOnly) Locate(findings []*model.Error) error {
	var errs []error
	for _, f := range findings {
		errs = append(errs, fmt.Errorf("%s: %w", d.name, f))
	}
	return errors.Join(errs...)
}

func parse(source, name string, text []byte) (*Declaration, error) {
	d := &Declaration{Source: source, Name: name, Text: text, Document: textOnly{name}, State: &model.State{}}
	return d, json.Unmarshal(text, d.State)
}

func declaration(source string, s *model.State) *Declaration {
	d, err := parse(source, source+".toml", jsonText(s))
	if err != nil {
		panic(err)
	}
	return d
}

// untyped is a declaration without text, as programs make it.
func untyped(source string, s *model.State) *Declaration {
	return &Declaration{Source: source, State: s}
}

func pool(name string, backends ...int) model.Pool {
	p := model.Pool{Name: name}
	for _, n := range backends {
		p.Backends = append(p.Backends, model.Backend{Address: netip.AddrFrom4([4]byte{198, 18, byte(10 + n>>8), byte(n)}), Port: 80, Weight: 1})
	}
	return p
}

// service number n has a VIP of its own.
func service(name string, n int, pool string) model.Service {
	return model.Service{Name: name, VIP: netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: pool, Method: model.L2}
}

func state(parts ...any) *model.State {
	s := &model.State{}
	for _, p := range parts {
		switch p := p.(type) {
		case model.Pool:
			s.Pools = append(s.Pools, p)
		case model.Service:
			s.Services = append(s.Services, p)
		case model.SNAT:
			s.SNATs = append(s.SNATs, p)
		case model.VIP:
			s.VIPs = append(s.VIPs, p)
		case model.Tunnel:
			s.Tunnel = p
		default:
			panic(fmt.Sprintf("no part of a state: %T", p))
		}
	}
	return s
}

// rig is a store with a clock and a data path that takes everything unless it
// is told otherwise.
type rig struct {
	*Store
	t       *testing.T
	cfg     Config
	now     time.Time
	inForce *Desired
	times   int // that something was put in force
	refuse  error
	log     strings.Builder
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.cfg.Parse = parse
	r.cfg.Now = func() time.Time { return r.now }
	r.cfg.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	if r.cfg.RemovalGuard == 0 {
		r.cfg.RemovalGuard = 100
	}
	r.Store = Open(r.cfg)
	return r
}

// begin starts the node with a file.
func (r *rig) begin(file *model.State) *Desired {
	r.t.Helper()
	return r.beginWith(declaration(SourceFile, file), nil)
}

func (r *rig) beginWith(file *Declaration, err error) *Desired {
	r.t.Helper()
	d, err := r.Begin(file, err)
	if err != nil {
		r.t.Fatal(err)
	}
	r.inForce = d
	r.Attach(r.put)
	return d
}

func (r *rig) put(d *Desired) error {
	if r.refuse != nil {
		return r.refuse
	}
	r.inForce = d
	r.times++
	return nil
}

// restart is a new process on the same directory. Nothing begins.
func (r *rig) restart() { r.Store = Open(r.cfg) }

func (r *rig) declare(source string, s *model.State, req Request) *Result {
	r.t.Helper()
	result, err := r.Declare(declaration(source, s), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// refused declares what must be refused, with these words.
func (r *rig) refused(d *Declaration, req Request, want string) {
	r.t.Helper()
	before, version := r.inForce, r.Status().Version
	_, err := r.Declare(d, req)
	wantError(r.t, err, want)
	if r.inForce != before || r.Status().Version != version {
		r.t.Errorf("version %d is in force after an error, before it was %d", r.Status().Version, version)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got the error\n%v\nwant\n%s", err, want)
	}
}

// services are the names in force.
func (r *rig) services() string {
	var names []string
	for i := range r.inForce.State.Services {
		names = append(names, r.inForce.State.Services[i].Name)
	}
	return strings.Join(names, " ")
}

func (r *rig) wantServices(want string) {
	r.t.Helper()
	if got := r.services(); got != want {
		r.t.Errorf("in force are the services %q, want %q", got, want)
	}
}

// conditions are the types of those that are so.
func (r *rig) conditions() string {
	var types []string
	for _, c := range r.Status().Conditions {
		types = append(types, string(c.Type))
	}
	return strings.Join(types, " ")
}

func (r *rig) wantConditions(want string) {
	r.t.Helper()
	if got := r.conditions(); got != want {
		r.t.Errorf("the conditions are %q, want %q: %+v", got, want, r.Status().Conditions)
	}
}

// addr is VIP number n of service.
func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}) }
