package configs

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// poolHealth reads how a pool is checked and what follows from that.
func (r *reader) poolHealth(t *table, p *model.Pool) {
	p.PanicThreshold = t.integer("panic_threshold", 0, 0, 100)
	p.SlowStart = t.duration("slow_start", 0, 0, model.MaxSlowStart, time.Millisecond)
	if health := t.sub("health", "[pool.health]"); health.data != nil {
		p.Check = r.check(health)
	}
}

// check reads a health check; defaults are filled in.
func (r *reader) check(t *table) *model.Check {
	t.require("type")
	c := &model.Check{
		Type: choice(t, "type", model.CheckTCP, model.CheckTCP, model.CheckHTTP, model.CheckHTTPS, model.CheckTLS, model.CheckGRPC,
			model.CheckUDP, model.CheckICMP, model.CheckDNS, model.CheckExec),
		Path:     choice(t, "path", model.PathAuto, model.PathAuto, model.PathDirect),
		Port:     uint16(t.integer("port", 0, 1, 65535)),
		Interval: t.duration("interval", model.DefaultCheckInterval, model.MinCheckInterval, model.MaxCheckInterval, time.Millisecond),
		Rise:     t.integer("rise", model.DefaultCheckRise, 1, model.MaxCheckCount),
		Fall:     t.integer("fall", model.DefaultCheckFall, 1, model.MaxCheckCount),
		Jitter:   t.integer("jitter", model.DefaultCheckJitter, 1, model.MaxCheckJitter),
	}
	c.Timeout = t.duration("timeout", min(model.DefaultCheckTimeout, c.Interval), model.MinCheckTimeout, model.MaxCheckInterval, time.Millisecond)
	c.Source, _ = t.address("source")
	r.checkHTTP(t.sub("http", "[pool.health.http]"), &c.HTTP)
	r.checkTLS(t.sub("tls", "[pool.health.tls]"), &c.TLS)
	grpc := t.sub("grpc", "[pool.health.grpc]")
	c.GRPC = model.GRPCCheck{Service: grpc.text("service", ""), UseTLS: grpc.flag("tls", false)}
	grpc.finish()
	r.checkUDP(t.sub("udp", "[pool.health.udp]"), &c.UDP)
	dns := t.sub("dns", "[pool.health.dns]")
	c.DNS = model.DNSCheck{Name: dns.text("name", ""), Type: dns.text("type", ""), RCode: dns.text("rcode", "")}
	dns.finish()
	exec := t.sub("exec", "[pool.health.exec]")
	if exec.data != nil {
		exec.require("command")
	}
	c.Exec = exec.texts("command")
	exec.finish()
	t.finish()
	return c.WithDefaults()
}

func (r *reader) checkHTTP(t *table, h *model.HTTPCheck) {
	h.Method = t.text("method", "")
	h.Path = t.text("path", "")
	h.Host = t.text("host", "")
	h.Status = t.statuses("status")
	h.Body = t.text("body", "")
	t.finish()
}

func (r *reader) checkTLS(t *table, c *model.TLSCheck) {
	c.ServerName = t.text("server_name", "")
	c.Verify = t.flag("verify", false)
	c.CAFile = t.text("ca_file", "")
	t.finish()
}

func (r *reader) checkUDP(t *table, u *model.UDPCheck) {
	isHex := t.flag("hex", false)
	for _, f := range []struct {
		key string
		to  *string
	}{{"send", &u.Send}, {"expect", &u.Expect}} {
		*f.to = t.text(f.key, "")
		if !isHex {
			continue
		}
		bytes, err := hex.DecodeString(strings.ReplaceAll(*f.to, " ", ""))
		if err != nil {
			t.refuse(f.key, "%q is not a row of bytes of two hexadecimal digits each", *f.to)
			continue
		}
		*f.to = string(bytes)
	}
	t.finish()
}

// statuses reads status codes: one as an integer or string, a range as a
// string "200-299", or an array of these.
func (t *table) statuses(key string) []model.StatusRange {
	v, there := t.get(key)
	if !there {
		return nil
	}
	list, isList := v.([]any)
	if !isList {
		s, wrong := parseStatus(v)
		if wrong != "" {
			t.refuse(key, "%s", wrong)
			return nil
		}
		return []model.StatusRange{s}
	}
	var out []model.StatusRange
	for i, e := range list {
		s, wrong := parseStatus(e)
		if wrong != "" {
			t.refuseElement(key, i, "%s", wrong)
			continue
		}
		out = append(out, s)
	}
	if len(list) == 0 {
		t.refuse(key, "is empty; leave it out, and everything but errors is right")
	}
	return out
}

// parseStatus reads one status code or range of them; wrong says what is wrong
// with it.
func parseStatus(v any) (s model.StatusRange, wrong string) {
	switch v := v.(type) {
	case int64:
		if v < 100 || v > 599 {
			return s, strconv.FormatInt(v, 10) + " is out of range; status codes are 100 to 599"
		}
		return model.StatusRange{First: int(v), Last: int(v)}, ""
	case string:
		first, last, isRange := strings.Cut(v, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		to, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		switch {
		case err1 != nil || err2 != nil || from < 100 || to > 599:
			return s, strconv.Quote(v) + ` is not a status code or a range of them such as "200-299", from 100 to 599`
		case from > to:
			return s, "the range " + strconv.Quote(v) + " ends before it begins"
		}
		return model.StatusRange{First: int(from), Last: int(to)}, ""
	}
	return s, `expected status codes such as 200 or "200-299", found ` + kind(v)
}

// texts reads an array of strings.
func (t *table) texts(key string) []string {
	v, there := t.get(key)
	if !there {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.refuse(key, "expected an array of strings, found %s", kind(v))
		return nil
	}
	var out []string
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			t.refuseElement(key, i, "expected a string, found %s", kind(e))
			continue
		}
		out = append(out, s)
	}
	return out
}
