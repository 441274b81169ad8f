package model

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// checked is the valid state with a health check of its first pool.
func checked(c Check) *State {
	s := valid()
	s.Pools[0].Check = &c
	return s
}

func TestValidChecks(t *testing.T) {
	for _, c := range []Check{
		{},
		{Type: CheckTCP, Interval: MinCheckInterval, Timeout: MinCheckInterval, Rise: 100, Fall: 100, Jitter: 50, Port: 1, Path: PathDirect, Source: ip("198.18.0.250")},
		{Type: CheckTCP, Interval: 50 * time.Millisecond},
		{Type: CheckHTTP, HTTP: HTTPCheck{Path: "/a?b=c&d=%2f", Method: "HEAD", Host: "[2001:db8::1]:80", Status: []StatusRange{{100, 599}}}},
		{Type: CheckHTTP, HTTP: HTTPCheck{Host: "192.0.2.1", Body: "^(ok|fine)$"}},
		{Type: CheckHTTPS, HTTP: HTTPCheck{Host: "a_b.example.com:443"}, TLS: TLSCheck{ServerName: "a.example", Verify: true, CAFile: "/etc/ca.pem"}},
		{Type: CheckTLS, TLS: TLSCheck{Verify: true}},
		{Type: CheckGRPC, GRPC: GRPCCheck{Service: "a.b.C", UseTLS: true}, TLS: TLSCheck{ServerName: "x"}},
		{Type: CheckUDP, UDP: UDPCheck{Send: strings.Repeat("x", MaxCheckDatagram)}},
		{Type: CheckICMP},
		{Type: CheckDNS, DNS: DNSCheck{Name: "_dns.resolver.arpa", Type: "SVCB", RCode: ExpectAnyRCode}},
		{Type: CheckExec, Exec: []string{"/bin/true"}},
	} {
		if errs := Validate(checked(c)); len(errs) != 0 {
			t.Errorf("%+v: %v", c, errs)
		}
	}
}

func TestValidateChecks(t *testing.T) {
	const prefix = "pool[0].health."
	says := func(field, text string) string {
		return prefix + field + `: pool "web": health check: ` + field + ": " + text
	}
	for _, c := range []struct {
		check Check
		want  []string
	}{
		{Check{Type: "ping"}, []string{says("type", `"ping" is none of tcp, http, https, tls, grpc, udp, icmp, dns, exec`)}},
		{Check{Interval: time.Millisecond, Rise: -1, Fall: 101, Jitter: 51, Path: "vip"}, []string{
			says("interval", "1ms is out of range; it must be 50ms to 1h0m0s"), says("rise", "-1 is out of range; it must be 1 to 100"),
			says("fall", "101 is out of range; it must be 1 to 100"), says("jitter", "51 is out of range; it must be 1 to 50"),
			says("path", `"vip" is neither auto nor direct`)}},
		{Check{Timeout: 3 * time.Second}, []string{says("timeout", "3s is longer than the interval of 2s; a check must end before the next begins")}},
		{Check{Timeout: -1}, []string{says("timeout", "-1ns is out of range; it must be 5ms to 1h0m0s")}},
		{Check{Source: ip("198.18.0.10")}, []string{says("source", "198.18.0.10 is a VIP, and answers to it would not reach the check")}},
		{Check{Source: ip("198.18.0.200")}, []string{says("source", "198.18.0.200 is a SNAT address, and answers to it would not reach the check")}},
		{Check{Source: ip("ff02::1")}, []string{says("source", "ff02::1 is a multicast address")}},
		{Check{Type: CheckICMP, Port: 7}, []string{says("port", "checks of type icmp ask no port")}},
		{Check{Type: CheckHTTP, HTTP: HTTPCheck{Path: "/%", Method: "CONNECT", Host: "a:0", Status: []StatusRange{{1, 2}, {300, 200}}}}, []string{
			says("http.method", "CONNECT opens a tunnel and cannot be a check"),
			says("http.path", `"/%" has a % that is not followed by two hexadecimal digits`),
			says("http.host", `"a:0" is not a host name or address, with or without a port`),
			says("http.status", "1-2 is out of range; status codes are 100 to 599"),
			says("http.status", "the range 300-200 ends before it begins")}},
		{Check{Type: CheckHTTP, HTTP: HTTPCheck{Path: "/a b", Method: "HEAD", Body: "x"}}, []string{
			says("http.path", `"/a b" has characters that must be percent-encoded`), says("http.body", "answers to HEAD have no body")}},
		{Check{Type: CheckHTTP, HTTP: HTTPCheck{Path: "/" + strings.Repeat("a", 1024), Body: "[", Host: "a\r\nX: y"}}, []string{
			says("http.path", "is longer than 1024 bytes"), says("http.host", `"a\r\nX: y" is not a host name or address, with or without a port`),
			says("http.body", "missing closing ]: `[`")}},
		{Check{Type: CheckTLS, TLS: TLSCheck{ServerName: "a b", CAFile: "ca.pem"}}, []string{
			says("tls.server_name", `"a b" is not a host name`), says("tls.ca_file", `"ca.pem" is not an absolute path`)}},
		{Check{Type: CheckTLS, TLS: TLSCheck{CAFile: "/ca.pem"}}, []string{says("tls.ca_file", "has no effect without verify = true")}},
		{Check{Type: CheckGRPC, GRPC: GRPCCheck{Service: "a\nb"}, TLS: TLSCheck{Verify: true}}, []string{
			says("tls", "is for checks of type https and tls, and of type grpc with tls = true; this one's type is grpc"),
			says("grpc.service", `"a\nb" is not the name of a service`)}},
		{Check{Type: CheckUDP, UDP: UDPCheck{Send: strings.Repeat("x", 1201), Expect: strings.Repeat("x", 1201)}}, []string{
			says("udp.send", "1201 bytes are too many for a datagram that passes everywhere; there may be 1200"),
			says("udp.expect", "1201 bytes are too many; there may be 1200")}},
		{Check{Type: CheckDNS, DNS: DNSCheck{Name: strings.Repeat("a", 64), Type: "a", RCode: "0"}}, []string{
			says("dns.name", `"`+strings.Repeat("a", 64)+`" is not a domain name`),
			says("dns.type", `"a" is none of A, AAAA, CAA, CNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT`),
			says("dns.rcode", `"0" is none of NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, ANY`)}},
		{Check{Type: CheckExec, Exec: []string{"/bin/x", "a\x00b"}}, []string{says("exec.command", "an argument has a NUL character")}},
		{Check{Type: CheckExec, Exec: make([]string, 65)}, []string{says("exec.command", "has 65 elements; there may be 64")}},
	} {
		var got []string
		for _, err := range Validate(checked(c.check)) {
			got = append(got, err.Error())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got\n%s\nwant\n%s", c.check, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestValidatePoolHealth(t *testing.T) {
	s := valid()
	s.Pools[0].PanicThreshold, s.Pools[0].SlowStart = -1, 25*time.Hour
	s.Pools[2].Check = &Check{} // of a service for every port, and the backend has none of its own
	want := []string{
		`pool[0].panic_threshold: pool "web": panic_threshold is -1; it must be 0 to 100 per cent`,
		`pool[0].slow_start: pool "web": slow_start is 25h0m0s; it must be 0s to 24h0m0s`,
		`service[2].port: service "rest" takes every port, so the health check of pool "plain" does not know which to ask: give it a port`,
	}
	var got []string
	for _, err := range Validate(s) {
		got = append(got, err.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if errs := NewPoolChecker(valid().WithDefaults()).Check(2, &s.Pools[2]); len(errs) != 1 || errs[0].Error() != want[2] {
		t.Errorf("a pool of its own: %v", errs)
	}
}

func TestCheckDefaults(t *testing.T) {
	var c Check
	d := c.WithDefaults()
	if c.Type != "" {
		t.Error("the check has changed")
	}
	if want := (&Check{Type: CheckTCP, Path: PathAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Jitter: 10}); !reflect.DeepEqual(d, want) {
		t.Errorf("defaults are %+v, want %+v", d, want)
	}
	s := State{Pools: []Pool{{}, {Check: &Check{Type: CheckHTTP}}, {}}}
	out := s.WithDefaults()
	if h := out.Pools[1].Check.HTTP; h.Path != "/" || h.Method != "GET" || !slices.Equal(h.Status, DefaultStatus) || s.Pools[1].Check.HTTP.Path != "" {
		t.Errorf("defaults of a state's pool are %+v, its own %+v", h, s.Pools[1].Check.HTTP)
	}
	if again := out.WithDefaults(); !reflect.DeepEqual(again, out) {
		t.Errorf("defaults of defaults differ: %+v", again)
	}
}

// TestCheckEqual changes one field at a time, however deep.
func TestCheckEqual(t *testing.T) {
	full := func() *Check {
		return &Check{Type: CheckHTTP, Port: 1, HTTP: HTTPCheck{Status: []StatusRange{{1, 2}}}, Exec: []string{"a"}}
	}
	if !full().Equal(full()) || (*Check)(nil).Equal(full()) || full().Equal(nil) || !(*Check)(nil).Equal(nil) {
		t.Error("equality of equal, or of no checks, is wrong")
	}
	var walk func(v reflect.Value, name string, c *Check)
	walk = func(v reflect.Value, name string, c *Check) {
		switch v.Kind() {
		case reflect.Struct:
			if v.Type() != reflect.TypeFor[netip.Addr]() {
				for i := range v.NumField() {
					walk(v.Field(i), name+"."+v.Type().Field(i).Name, c)
				}
				return
			}
			v.Set(reflect.ValueOf(ip("192.0.2.1")))
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Uint16:
			v.SetUint(v.Uint() + 1)
		default:
			t.Fatalf("%s is a %s", name, v.Kind())
		}
		if c.Equal(full()) {
			t.Errorf("%s differs and nobody notices", name)
		}
		reflect.ValueOf(c).Elem().Set(reflect.ValueOf(full()).Elem())
	}
	c := full()
	walk(reflect.ValueOf(c).Elem(), "Check", c)
}
