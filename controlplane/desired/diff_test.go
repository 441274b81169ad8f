package desired

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

func itoa(n int) string { return strconv.Itoa(n) }

// diffText writes changes down, one a line.
func diffText(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s", c.Op, c.Kind)
		for _, part := range []string{c.Pool, c.Name} {
			if part != "" {
				b.WriteString(" " + part)
			}
		}
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "; %s: %s -> %s", f.Name, f.Before, f.After)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestCompare(t *testing.T) {
	before := state(pool("web", 1, 2), pool("old", 7), service("web", 1, "web"), service("old", 2, "old"),
		model.SNAT{Address: netip.MustParseAddr("198.18.5.1")}, model.VIP{Address: netip.MustParseAddr("198.18.0.1"), AnswerARP: true, AnswerPing: true})
	after := state(pool("new", 9), pool("web", 2, 3), service("web", 1, "web"), service("new", 3, "new"),
		model.SNAT{Address: netip.MustParseAddr("198.18.5.1"), Ports: model.PortRange{First: 2000, Last: 3000}}, model.SNAT{Address: netip.MustParseAddr("198.18.5.2")},
		model.VIP{Address: netip.MustParseAddr("198.18.0.1"), AnswerPing: true}, model.Tunnel{Source4: netip.MustParseAddr("198.18.9.1")})
	after.Pools[1].Backends[0].Weight, after.Pools[1].Backends[0].Name = 5, "two"
	after.Pools[1].Check = &model.Check{Type: model.CheckHTTP, Interval: 2 * time.Second, HTTP: model.HTTPCheck{Status: []model.StatusRange{{First: 200, Last: 299}, {First: 404, Last: 404}}}}
	after.Services[0].Ports, after.Services[0].DisableMSS, after.Services[0].Gone = model.AllPorts, true, model.GoneDrop
	after.Services[0].SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	after.Services[0].Affinity = model.Affinity{Enabled: true, Timeout: time.Hour}
	after.HashSeed[1] = 7
	after.Limits.ReplyRate = 5
	const want = `changed hash_seed; hash_seed: (hidden) -> (another)
changed tunnel; source_ipv4:  -> 198.18.9.1
changed limits; reply_rate: 1000 -> 5
changed vip 198.18.0.1; arp: true -> false
changed snat 198.18.5.1; ports: 1024-65535 -> 2000-3000
added snat 198.18.5.2
added pool new
added backend new 198.18.10.9:80
removed pool old
removed backend old 198.18.10.7:80
changed pool web; health.type:  -> http; health.interval:  -> 2s; health.http.status:  -> 200-299, 404
removed backend web 198.18.10.1:80
changed backend web 198.18.10.2:80; name:  -> two; weight: 1 -> 5
added backend web 198.18.10.3:80
added service new; vip:  -> 198.18.0.3; protocol:  -> tcp; port:  -> 80; pool:  -> new; method:  -> l2
removed service old; vip: 198.18.0.2 -> ; protocol: tcp -> ; port: 80 -> ; pool: old -> ; method: l2 -> 
changed service web; port: 80 -> 0; affinity: none -> client_ip for 1h0m0s; on_backend_gone: reset -> drop; source_ranges:  -> 192.0.2.0/24, 203.0.113.0/24; mss_clamp: true -> false
`
	changes := Compare(before, after)
	got := diffText(changes)
	if fewer(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := summarize(changes).String(); s != "+1 service, -1 service, ~1 service, +1 pool, -1 pool, ~1 pool, +2 backends, -2 backends, ~1 backend, ~1 VIP, +1 SNAT address, ~1 SNAT address, ~hash_seed, ~tunnel, ~limits" {
		t.Errorf("the summary is %s", s)
	}
	if changes := Compare(before, before); len(changes) != 0 || summarize(nil).String() != "no object" {
		t.Errorf("of nothing: %v", changes)
	}
	// Defaults that are left out and defaults that are written are the same.
	if changes := Compare(after, after.WithDefaults()); len(changes) != 0 {
		t.Errorf("defaults: %s", diffText(changes))
	}
}

// fewer leaves out most fields of a health check, of which there are more with
// each release.
func fewer(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		var fields []string
		for f := range strings.SplitSeq(line, "; ") {
			if name, _, _ := strings.Cut(f, ":"); !strings.HasPrefix(f, "health.") || slices.Contains([]string{"health.type", "health.interval", "health.http.status"}, name) {
				fields = append(fields, f)
			}
		}
		out = append(out, strings.Join(fields, "; "))
	}
	return strings.Join(out, "\n")
}

// TestCompareSeesEveryField changes one field after the other, also those that
// will be added, and asserts that a difference is found and named.
func TestCompareSeesEveryField(t *testing.T) {
	at := netip.MustParseAddr("198.18.0.1")
	for kind, list := range map[string]func(*model.State) reflect.Value{
		"service": func(s *model.State) reflect.Value { return reflect.ValueOf(&s.Services[0]) },
		"pool":    func(s *model.State) reflect.Value { return reflect.ValueOf(&s.Pools[0]) },
		"backend": func(s *model.State) reflect.Value { return reflect.ValueOf(&s.Pools[0].Backends[0]) },
		"vip":     func(s *model.State) reflect.Value { return reflect.ValueOf(&s.VIPs[0]) },
		"snat":    func(s *model.State) reflect.Value { return reflect.ValueOf(&s.SNATs[0]) },
		"tunnel":  func(s *model.State) reflect.Value { return reflect.ValueOf(&s.Tunnel) },
		"limits":  func(s *model.State) reflect.Value { return reflect.ValueOf(&s.Limits) },
	} {
		fresh := func() *model.State {
			s := state(pool("web", 1), service("web", 1, "web"), model.SNAT{Address: at}, model.VIP{Address: at})
			return s.WithDefaults()
		}
		typ := list(fresh()).Elem().Type()
		for i := range typ.NumField() {
			if typ.Field(i).Name == "Serving" { // no source declares it
				continue
			}
			s := fresh()
			field := list(s).Elem().Field(i)
			alter(t, field)
			if changes := Compare(fresh(), s); len(changes) == 0 {
				t.Errorf("nothing is said of another %s.%s", typ.Name(), typ.Field(i).Name)
			} else if !strings.Contains(diffText(changes), kind) && typ.Field(i).Name != "Backends" {
				t.Errorf("another %s.%s: %s", typ.Name(), typ.Field(i).Name, diffText(changes))
			}
		}
	}
}

// alter gives a field another value than it has.
func alter(t *testing.T, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + int64(time.Second))
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), v.Len()+1, v.Len()+1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if v.Elem().Kind() == reflect.Struct {
			alter(t, v.Elem().Field(0))
		}
	case reflect.Struct:
		alter(t, v.Field(0))
	default:
		t.Fatalf("no other value of a %s is known", v.Type())
	}
}
