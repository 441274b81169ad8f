package options

import (
	"errors"
	"strings"

	"fairlead/controlplane/model"
)

// noCheck is the value of HealthCheck that switches checks off.
const noCheck = "none"

func checkKind(v string) (string, error) {
	if v == string(model.CheckExec) {
		return "", errors.New("exec is not for Services: it would have them run programs on the balancer")
	}
	return word(v, noCheck, string(model.CheckTCP), string(model.CheckHTTP), string(model.CheckHTTPS), string(model.CheckTLS),
		string(model.CheckGRPC), string(model.CheckUDP), string(model.CheckICMP), string(model.CheckDNS))
}

// checkField is where a value of a check comes from, by the field that model
// reports.
type checkField struct {
	field       string
	annotations []string
	reset       func(c *model.Check)
}

var checkFields = []checkField{
	{"health.port", []string{HealthCheckPort}, func(c *model.Check) { c.Port = 0 }},
	{"health.interval", []string{HealthCheckInterval}, func(c *model.Check) { c.Interval = 0 }},
	{"health.timeout", []string{HealthCheckTimeout}, func(c *model.Check) { c.Timeout = 0 }},
	{"health.rise", []string{HealthCheckRise}, func(c *model.Check) { c.Rise = 0 }},
	{"health.fall", []string{HealthCheckFall}, func(c *model.Check) { c.Fall = 0 }},
	{"health.http.path", []string{HealthCheckPath}, func(c *model.Check) { c.HTTP.Path = "" }},
	{"health.http.host", []string{HealthCheckHost}, func(c *model.Check) { c.HTTP.Host = "" }},
	{"health.http.status", []string{HealthCheckStatus}, func(c *model.Check) { c.HTTP.Status = nil }},
	{"health.http", []string{HealthCheckPath, HealthCheckHost, HealthCheckStatus}, func(c *model.Check) { c.HTTP = model.HTTPCheck{} }},
	{"health.grpc.service", []string{HealthCheckGRPCService}, func(c *model.Check) { c.GRPC = model.GRPCCheck{} }},
	{"health.grpc", []string{HealthCheckGRPCService}, func(c *model.Check) { c.GRPC = model.GRPCCheck{} }},
	{"health.dns.name", []string{HealthCheckDNSName}, func(c *model.Check) { c.DNS = model.DNSCheck{} }},
	{"health.dns", []string{HealthCheckDNSName}, func(c *model.Check) { c.DNS = model.DNSCheck{} }},
	{"health.udp.send", []string{HealthCheckSend}, func(c *model.Check) { c.UDP.Send = "" }},
	{"health.udp.expect", []string{HealthCheckExpect}, func(c *model.Check) { c.UDP.Expect = "" }},
	{"health.udp", []string{HealthCheckSend, HealthCheckExpect}, func(c *model.Check) { c.UDP = model.UDPCheck{} }},
}

// check makes the health check of what was read. Values that do not fit the rest
// are reported and become defaults: what comes out is valid.
func (r *reader) check(d *draft) {
	switch d.kind {
	case "":
		if r.has(HealthCheck) {
			return // it is wrong, and that was said
		}
		for _, a := range annotations {
			if strings.HasPrefix(a.Name, HealthCheck+"-") && r.has(a.Name) {
				r.warn(AnnotationWithoutEffect, "annotation %s: has no effect without %s", a.Name, HealthCheck)
			}
		}
		return
	case noCheck:
		d.options.DisableCheck = true
		return
	}
	c := d.check
	c.Type = model.CheckType(d.kind)
	for _, err := range model.Validate(&model.State{Pools: []model.Pool{{Name: "pool", Check: &c}}}) {
		wrong, ok := errors.AsType[*model.Error](err)
		if !ok {
			continue
		}
		for _, f := range checkFields {
			if f.field != wrong.Field {
				continue
			}
			_, why, _ := strings.Cut(wrong.Message, strings.TrimPrefix(f.field, "health.")+": ")
			for _, name := range f.annotations {
				if r.has(name) {
					r.invalid(name, why)
				}
			}
			f.reset(&c)
		}
	}
	if len(model.Validate(&model.State{Pools: []model.Pool{{Name: "pool", Check: &c}}})) > 0 {
		c = model.Check{Type: c.Type}
	}
	d.options.Check = &c
}
