package configs

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// renderHealth writes out how a pool is checked, for render.
func renderHealth(p *model.Pool, line func(format string, args ...any), quote func(string) string) {
	line("panic_threshold = %d\nslow_start = %q", p.PanicThreshold, p.SlowStart)
	c := p.Check
	if c == nil {
		return
	}
	line("[pool.health]\ntype = %q\npath = %q\ninterval = %q\ntimeout = %q\nrise = %d\nfall = %d\njitter = %d",
		c.Type, c.Path, c.Interval, c.Timeout, c.Rise, c.Fall, c.Jitter)
	if c.Port != 0 {
		line("port = %d", c.Port)
	}
	if c.Source.IsValid() {
		line("source = %q", c.Source)
	}
	if h := &c.HTTP; h.Method != "" {
		var status []string
		for _, s := range h.Status {
			status = append(status, quote(s.String()))
		}
		line("[pool.health.http]\nmethod = %s\npath = %s\nhost = %s\nbody = %s\nstatus = [ %s ]",
			quote(h.Method), quote(h.Path), quote(h.Host), quote(h.Body), strings.Join(status, ", "))
	}
	line("[pool.health.tls]\nserver_name = %s\nverify = %t\nca_file = %s", quote(c.TLS.ServerName), c.TLS.Verify, quote(c.TLS.CAFile))
	line("[pool.health.grpc]\nservice = %s\ntls = %t", quote(c.GRPC.Service), c.GRPC.UseTLS)
	line("[pool.health.udp]\nhex = true\nsend = \"%x\"\nexpect = \"%x\"", c.UDP.Send, c.UDP.Expect)
	line("[pool.health.dns]\nname = %s\ntype = %s\nrcode = %s", quote(c.DNS.Name), quote(c.DNS.Type), quote(c.DNS.RCode))
	if len(c.Exec) > 0 {
		var command []string
		for _, s := range c.Exec {
			command = append(command, quote(s))
		}
		line("[pool.health.exec]\ncommand = [ %s ]", strings.Join(command, ", "))
	}
}

func TestHealth(t *testing.T) {
	defaults := model.Check{Path: model.PathAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Jitter: 10}
	with := func(change func(c *model.Check)) *model.Check {
		c := defaults
		change(&c)
		return &c
	}
	for _, c := range []struct {
		name, toml string
		want       *model.Check
	}{
		{"none", "", nil},
		{"tcp", `health = { type = "tcp" }`, with(func(c *model.Check) { c.Type = model.CheckTCP })},
		{"numbers", "[pool.health]\ntype = \"icmp\"\npath = \"direct\"\ninterval = \"250ms\"\nrise = 1\nfall = 5\njitter = 20\nsource = \"198.18.10.1\"", with(func(c *model.Check) {
			*c = model.Check{Type: model.CheckICMP, Path: model.PathDirect, Interval: 250 * time.Millisecond, Timeout: 250 * time.Millisecond,
				Rise: 1, Fall: 5, Jitter: 20, Source: netip.MustParseAddr("198.18.10.1")}
		})},
		{"http", `health = { type = "http", port = 81, http = { status = 204 } }`, with(func(c *model.Check) {
			c.Type, c.Port, c.HTTP = model.CheckHTTP, 81, model.HTTPCheck{Method: "GET", Path: "/", Status: []model.StatusRange{{First: 204, Last: 204}}}
		})},
		{"https", `health = { type = "https", http = { method = "HEAD", path = "/a?b=%20", host = "www.example.com:8443", status = [ 200, "300-399" ] }, tls = { server_name = "x.example.com", verify = true, ca_file = "/a/b.pem" } }`,
			with(func(c *model.Check) {
				c.Type = model.CheckHTTPS
				c.HTTP = model.HTTPCheck{Method: "HEAD", Path: "/a?b=%20", Host: "www.example.com:8443", Status: []model.StatusRange{{First: 200, Last: 200}, {First: 300, Last: 399}}}
				c.TLS = model.TLSCheck{ServerName: "x.example.com", Verify: true, CAFile: "/a/b.pem"}
			})},
		{"grpc", `health = { type = "grpc", grpc = { service = "a.B", tls = true }, tls = { verify = true } }`, with(func(c *model.Check) {
			c.Type, c.GRPC, c.TLS = model.CheckGRPC, model.GRPCCheck{Service: "a.B", UseTLS: true}, model.TLSCheck{Verify: true}
		})},
		{"udp", `health = { type = "udp", udp = { send = "ping", expect = "pong" } }`, with(func(c *model.Check) {
			c.Type, c.UDP = model.CheckUDP, model.UDPCheck{Send: "ping", Expect: "pong"}
		})},
		{"udp in hex", `health = { type = "udp", udp = { hex = true, send = "ff 00", expect = "FFfe" } }`, with(func(c *model.Check) {
			c.Type, c.UDP = model.CheckUDP, model.UDPCheck{Send: "\xff\x00", Expect: "\xff\xfe"}
		})},
		{"dns", `health = { type = "dns", dns = { name = "a.example", rcode = "ANY" } }`, with(func(c *model.Check) {
			c.Type, c.DNS = model.CheckDNS, model.DNSCheck{Name: "a.example", Type: "A", RCode: "ANY"}
		})},
		{"dns root", `health = { type = "dns" }`, with(func(c *model.Check) {
			c.Type, c.DNS = model.CheckDNS, model.DNSCheck{Name: ".", Type: "NS", RCode: "NOERROR"}
		})},
		{"exec", `health = { type = "exec", exec = { command = [ "/bin/true", "-x" ] } }`, with(func(c *model.Check) {
			c.Type, c.Exec = model.CheckExec, []string{"/bin/true", "-x"}
		})},
	} {
		cfg, err := Parse("f", []byte("[[pool]]\nname = \"p\"\npanic_threshold = 50\nslow_start = \"30s\"\n"+c.toml+"\n"))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		p := &cfg.State.Pools[0]
		if !reflect.DeepEqual(p.Check, c.want) || p.PanicThreshold != 50 || p.SlowStart != 30*time.Second {
			t.Errorf("%s: got %+v of %+v, want %+v", c.name, p.Check, p, c.want)
		}
		checkParse(t, []byte(render(cfg)))
	}
}

func TestHealthErrors(t *testing.T) {
	pool := func(health string) string {
		return "[[pool]]\nname = \"p\"\n[pool.health]\n" + strings.ReplaceAll(health, "; ", "\n") + "\n"
	}
	for _, c := range []struct{ toml, want string }{
		{"[[pool]]\nname = \"p\"\nhealth = 1\npanic_threshold = 101\nslow_start = \"48h\"\n", `3:10: health: expected a table, found an integer
4:19: panic_threshold: 101 is out of range; it must be 0 to 100
5:14: slow_start: 48h is out of range; it must be 0s to 24h`},
		{pool("interval = \"1s\""), `3:1: missing key "type" in [pool.health]`},
		{pool(`type = "htpp"; intervall = "1s"`), `4:8: type: "htpp" is none of "tcp", "http", "https", "tls", "grpc", "udp", "icmp", "dns", "exec" (did you mean "http"?)
5:1: unknown key "intervall" in [pool.health] (did you mean "interval"?)`},
		{pool(`type = "tcp"; interval = "10ms"; timeout = "2h"; rise = 0; fall = 101; jitter = 51; port = 0; path = "vip"; source = "x"`),
			`5:12: interval: 10ms is out of range; it must be 50ms to 1h
6:11: timeout: 2h is out of range; it must be 5ms to 1h
7:8: rise: 0 is out of range; it must be 1 to 100
8:8: fall: 101 is out of range; it must be 1 to 100
9:10: jitter: 51 is out of range; it must be 1 to 50
10:8: port: 0 is out of range; it must be 1 to 65535
11:8: path: "vip" is none of "auto", "direct"
12:10: source: "x" is not an IP address`},
		{pool(`type = "tcp"; interval = "1s"; timeout = "1500ms"`),
			`6:11: pool "p": health check: timeout: 1.5s is longer than the interval of 1s; a check must end before the next begins`},
		{pool(`type = "tcp"; http = { path = "/" }; tls.verify = true; udp.send = "x"; dns.name = "a"; grpc.tls = true; exec.command = [ "/a" ]`),
			`5:8: pool "p": health check: http: is for checks of type http and https, and this one's type is tcp
6:1: pool "p": health check: tls: is for checks of type https and tls, and of type grpc with tls = true; this one's type is tcp
7:1: pool "p": health check: udp: is for checks of type udp, and this one's type is tcp
8:1: pool "p": health check: dns: is for checks of type dns, and this one's type is tcp
9:1: pool "p": health check: grpc: is for checks of type grpc, and this one's type is tcp
10:1: pool "p": health check: exec: is for checks of type exec, and this one's type is tcp`},
		{pool(`type = "http"; [pool.health.http]; method = "G T"; path = "x"; host = "a b"; status = [ 99, "200-", "300-200", true ]; body = "("; pth = "/"`),
			`6:10: pool "p": health check: http.method: "G T" is not the name of an HTTP method
7:8: pool "p": health check: http.path: "x" does not begin with a slash
8:8: pool "p": health check: http.host: "a b" is not a host name or address, with or without a port
9:12: status: 99 is out of range; status codes are 100 to 599
9:16: status: "200-" is not a status code or a range of them such as "200-299", from 100 to 599
9:24: status: the range "300-200" ends before it begins
9:35: status: expected status codes such as 200 or "200-299", found a boolean
` + "10:8: pool \"p\": health check: http.body: missing closing ): `(`" + `
11:1: unknown key "pth" in [pool.health.http] (did you mean "path"?)`},
		{pool(`type = "http"; http.status = []; http.path = 1`), `5:15: status: is empty; leave it out, and everything but errors is right
6:13: path: expected a string, found an integer`},
		{pool(`type = "udp"; udp = { hex = true, send = "f", expect = "xx" }`), `5:28: send: "f" is not a row of bytes of two hexadecimal digits each
5:42: expect: "xx" is not a row of bytes of two hexadecimal digits each`},
		{pool(`type = "dns"; dns = { name = "a..b", type = "X", rcode = "OK" }`), `5:16: pool "p": health check: dns.name: "a..b" is not a domain name
5:31: pool "p": health check: dns.type: "X" is none of A, AAAA, CAA, CNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT
5:44: pool "p": health check: dns.rcode: "OK" is none of NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, ANY`},
		{pool(`type = "exec"`), `3:1: pool "p": health check: exec.command: is missing`},
		{pool(`type = "exec"; exec = {}`), `5:8: missing key "command" in [pool.health.exec]`},
		{pool(`type = "exec"; exec.command = "x"`), `5:16: command: expected an array of strings, found a string`},
		{pool(`type = "exec"; exec.command = [ "true", 1 ]`), `5:16: pool "p": health check: exec.command: the program "true" is not an absolute path
5:26: command: expected a string, found an integer`},
	} {
		expectErrors(t, fmt.Sprintf("%.60q", c.toml), c.toml, c.want)
	}
}
