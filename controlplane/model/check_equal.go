package model

import (
	"slices"
	"strconv"
)

// Equal reports whether two checks are the same in every field. Either may be
// nil, which is the check of a pool that has none.
func (c *Check) Equal(o *Check) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Type == o.Type && c.Path == o.Path && c.Port == o.Port && c.Interval == o.Interval && c.Timeout == o.Timeout &&
		c.Rise == o.Rise && c.Fall == o.Fall && c.Jitter == o.Jitter && c.Source == o.Source && c.KeepFlows == o.KeepFlows &&
		c.HTTP.equal(&o.HTTP) && c.TLS == o.TLS && c.GRPC == o.GRPC && c.UDP == o.UDP && c.DNS == o.DNS &&
		slices.Equal(c.Exec, o.Exec)
}

func (h *HTTPCheck) equal(o *HTTPCheck) bool {
	return h.Method == o.Method && h.Path == o.Path && h.Host == o.Host && h.Body == o.Body && slices.Equal(h.Status, o.Status)
}

func (h *HTTPCheck) empty() bool { return h.equal(&HTTPCheck{}) }

// String is the range as the configuration file has it.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return strconv.Itoa(r.First) + "-" + strconv.Itoa(r.Last)
}
