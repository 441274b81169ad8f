package model

import (
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Query types and response codes that a DNS check may name.
var (
	dnsTypes  = []string{"A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "SVCB", "TXT"}
	dnsRCodes = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", ExpectAnyRCode}
)

var checkTypes = []CheckType{CheckTCP, CheckHTTP, CheckHTTPS, CheckTLS, CheckGRPC, CheckUDP, CheckICMP, CheckDNS, CheckExec}

// health checks how a pool is checked and what follows from that.
func (v *validator) health(i int, p *Pool) {
	if p.PanicThreshold < 0 || p.PanicThreshold > 100 {
		v.report(KindPool, i, -1, "panic_threshold", "pool %q: panic_threshold is %d; it must be 0 to 100 per cent", p.Name, p.PanicThreshold)
	}
	if p.SlowStart < 0 || p.SlowStart > MaxSlowStart {
		v.report(KindPool, i, -1, "slow_start", "pool %q: slow_start is %s; it must be 0s to %s", p.Name, p.SlowStart, MaxSlowStart)
	}
	if p.Check == nil {
		return
	}
	c := &checkValidator{v: v, index: i, pool: p.Name, check: p.Check.WithDefaults()}
	c.times()
	c.source()
	if !slices.Contains(checkTypes, c.check.Type) {
		c.report("type", "%q is none of %s", string(c.check.Type), joined(checkTypes))
		return // what the type says of the rest is not known
	}
	c.foreign()
	c.http()
	c.tls()
	c.grpc()
	c.udp()
	c.dns()
	c.exec()
}

// checkValidator carries the validation of one pool's check.
type checkValidator struct {
	v     *validator
	index int
	pool  string
	check *Check // with defaults
}

// report reports what is wrong with a field, named as in [pool.health].
func (c *checkValidator) report(field, format string, args ...any) {
	c.v.report(KindPool, c.index, -1, "health."+field, "pool %q: health check: %s: "+format, append([]any{c.pool, field}, args...)...)
}

func (c *checkValidator) times() {
	k := c.check
	duration := func(field string, d, least, most time.Duration) bool {
		if d < least || d > most {
			c.report(field, "%s is out of range; it must be %s to %s", d, least, most)
			return false
		}
		return true
	}
	if duration("interval", k.Interval, MinCheckInterval, MaxCheckInterval) &&
		duration("timeout", k.Timeout, MinCheckTimeout, MaxCheckInterval) && k.Timeout > k.Interval {
		c.report("timeout", "%s is longer than the interval of %s; a check must end before the next begins", k.Timeout, k.Interval)
	}
	count := func(field string, n, most int) {
		if n < 1 || n > most {
			c.report(field, "%d is out of range; it must be 1 to %d", n, most)
		}
	}
	count("rise", k.Rise, MaxCheckCount)
	count("fall", k.Fall, MaxCheckCount)
	count("jitter", k.Jitter, MaxCheckJitter)
	if k.Path != PathAuto && k.Path != PathDirect {
		c.report("path", "%q is neither auto nor direct", string(k.Path))
	}
}

// source checks where checks come from: an address of the node's own, not one
// that the data path takes packets to.
func (c *checkValidator) source() {
	a := c.check.Source
	switch {
	case !a.IsValid():
		return
	case a.IsLoopback(): // for servers on the node itself
		return
	}
	if bad := badAddress(a); bad != "" {
		c.report("source", "%s %s", a, bad)
		return
	}
	s := c.v.state
	vip := slices.ContainsFunc(s.VIPs, func(v VIP) bool { return v.Address == a }) ||
		slices.ContainsFunc(s.Services, func(v Service) bool { return v.VIP == a })
	switch {
	case vip:
		c.report("source", "%s is a VIP, and answers to it would not reach the check", a)
	case slices.ContainsFunc(s.SNATs, func(v SNAT) bool { return v.Address == a }):
		c.report("source", "%s is a SNAT address, and answers to it would not reach the check", a)
	}
}

// foreign refuses settings of other types of checks than this one's: they
// would be without effect.
func (c *checkValidator) foreign() {
	k := c.check
	if !k.HTTP.empty() && k.Type != CheckHTTP && k.Type != CheckHTTPS {
		c.report("http", "is for checks of type http and https, and this one's type is %s", k.Type)
	}
	if k.TLS != (TLSCheck{}) && !k.UsesTLS() {
		c.report("tls", "is for checks of type https and tls, and of type grpc with tls = true; this one's type is %s", k.Type)
	}
	if k.GRPC != (GRPCCheck{}) && k.Type != CheckGRPC {
		c.report("grpc", "is for checks of type grpc, and this one's type is %s", k.Type)
	}
	if k.UDP != (UDPCheck{}) && k.Type != CheckUDP {
		c.report("udp", "is for checks of type udp, and this one's type is %s", k.Type)
	}
	if k.DNS != (DNSCheck{}) && k.Type != CheckDNS {
		c.report("dns", "is for checks of type dns, and this one's type is %s", k.Type)
	}
	if len(k.Exec) > 0 && k.Type != CheckExec {
		c.report("exec", "is for checks of type exec, and this one's type is %s", k.Type)
	}
	if k.Port != 0 && k.Type == CheckICMP {
		c.report("port", "checks of type icmp ask no port")
	}
}

func (c *checkValidator) http() {
	h := &c.check.HTTP
	if c.check.Type != CheckHTTP && c.check.Type != CheckHTTPS {
		return
	}
	if !isToken(h.Method) || len(h.Method) > 32 {
		c.report("http.method", "%q is not the name of an HTTP method", h.Method)
	} else if h.Method == "CONNECT" {
		c.report("http.method", "CONNECT opens a tunnel and cannot be a check")
	}
	switch {
	case !strings.HasPrefix(h.Path, "/"):
		c.report("http.path", "%q does not begin with a slash", h.Path)
	case len(h.Path) > MaxCheckText:
		c.report("http.path", "is longer than %d bytes", MaxCheckText)
	case strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }):
		c.report("http.path", "%q has characters that must be percent-encoded", h.Path)
	case badEscape.MatchString(h.Path):
		c.report("http.path", "%q has a %% that is not followed by two hexadecimal digits", h.Path)
	}
	if h.Host != "" && !isHost(h.Host) {
		c.report("http.host", "%q is not a host name or address, with or without a port", h.Host)
	}
	for _, r := range h.Status {
		switch {
		case r.First > r.Last:
			c.report("http.status", "the range %d-%d ends before it begins", r.First, r.Last)
		case r.First < 100 || r.Last > 599:
			c.report("http.status", "%s is out of range; status codes are 100 to 599", r)
		}
	}
	switch _, err := regexp.Compile(h.Body); {
	case len(h.Body) > MaxCheckText:
		c.report("http.body", "is longer than %d bytes", MaxCheckText)
	case err != nil:
		c.report("http.body", "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	case h.Body != "" && h.Method == "HEAD":
		c.report("http.body", "answers to HEAD have no body")
	}
}

func (c *checkValidator) tls() {
	t := &c.check.TLS
	if !c.check.UsesTLS() {
		return
	}
	if t.ServerName != "" && !isHostName(t.ServerName) {
		c.report("tls.server_name", "%q is not a host name", t.ServerName)
	}
	switch {
	case t.CAFile == "":
	case !path.IsAbs(t.CAFile) || strings.ContainsRune(t.CAFile, 0):
		c.report("tls.ca_file", "%q is not an absolute path", t.CAFile)
	case !t.Verify:
		c.report("tls.ca_file", "has no effect without verify = true")
	}
}

func (c *checkValidator) grpc() {
	if s := c.check.GRPC.Service; len(s) > 253 || !isPrintable(s) {
		c.report("grpc.service", "%q is not the name of a service", s)
	}
}

func (c *checkValidator) udp() {
	u := &c.check.UDP
	if len(u.Send) > MaxCheckDatagram {
		c.report("udp.send", "%d bytes are too many for a datagram that passes everywhere; there may be %d", len(u.Send), MaxCheckDatagram)
	}
	if len(u.Expect) > MaxCheckDatagram {
		c.report("udp.expect", "%d bytes are too many; there may be %d", len(u.Expect), MaxCheckDatagram)
	}
}

func (c *checkValidator) dns() {
	d := &c.check.DNS
	if c.check.Type != CheckDNS {
		return
	}
	if d.Name != "." && !isDNSName(d.Name) {
		c.report("dns.name", "%q is not a domain name", d.Name)
	}
	if !slices.Contains(dnsTypes, d.Type) {
		c.report("dns.type", "%q is none of %s", d.Type, strings.Join(dnsTypes, ", "))
	}
	if !slices.Contains(dnsRCodes, d.RCode) {
		c.report("dns.rcode", "%q is none of %s", d.RCode, strings.Join(dnsRCodes, ", "))
	}
}

func (c *checkValidator) exec() {
	command := c.check.Exec
	if c.check.Type != CheckExec {
		return
	}
	switch {
	case len(command) == 0:
		c.report("exec.command", "is missing")
	case len(command) > MaxCheckCommand:
		c.report("exec.command", "has %d elements; there may be %d", len(command), MaxCheckCommand)
	case !path.IsAbs(command[0]):
		c.report("exec.command", "the program %q is not an absolute path", command[0])
	case slices.ContainsFunc(command, func(s string) bool { return strings.ContainsRune(s, 0) }):
		c.report("exec.command", "an argument has a NUL character")
	}
}

// checkPort finds out whether the checks of its pool know a
// port to ask with a service.
func (v *validator) checkPort(i int, svc *Service, p *Pool) {
	if p.Check == nil || p.Check.Port != 0 || !p.Check.WithDefaults().Type.NeedsPort() || svc.Ports != AllPorts {
		return
	}
	if slices.ContainsFunc(p.Backends, func(b Backend) bool { return b.Port == 0 }) {
		v.report(KindService, i, -1, "port", "service %q takes every port, so the health check of pool %q does not know which to ask: give it a port", svc.Name, p.Name)
	}
}

// badEscape finds a per cent sign that does not begin an escape.
var badEscape = regexp.MustCompile(`%([^0-9A-Fa-f]|$|.[^0-9A-Fa-f]|.$)`)

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isHost reports whether s can be the value of a Host header.
func isHost(s string) bool {
	if host, port, ok := strings.Cut(s, ":"); ok && !strings.Contains(port, ":") {
		return (isHostName(host) || isIP(host)) && isPort(port)
	}
	if rest, ok := strings.CutPrefix(s, "["); ok { // an IPv6 address
		host, after, closed := strings.Cut(rest, "]")
		port, hasPort := strings.CutPrefix(after, ":")
		return closed && isIP(host) && (after == "" || hasPort && isPort(port))
	}
	return isHostName(s) || isIP(s)
}

func isIP(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

func isPort(s string) bool {
	_, err := netip.ParseAddrPort("0.0.0.0:" + s)
	return err == nil && s != "0"
}

// isHostName reports whether s is a host name by RFC 1123 section 2.1, with
// underscores tolerated.
func isHostName(s string) bool {
	return isDNSName(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
	})
}

// isDNSName checks the lengths of a domain name and of its labels (RFC 1035
// section 2.3.4).
func isDNSName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 || !isPrintable(s) || strings.ContainsAny(s, ` "\`) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

func joined[T ~string](words []T) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = string(w)
	}
	return strings.Join(all, ", ")
}
