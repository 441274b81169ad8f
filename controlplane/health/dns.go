package health

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"fairlead/controlplane/model"
)

// dnsProbe succeeds when a query over UDP is answered with the right code.
type dnsProbe struct {
	dialer
	question dns.Question
	rcode    int // -1: any
}

// dnsSize is how large an answer may be, as EDNS tells the server: what passes
// every path in one packet.
const dnsSize = model.MaxCheckDatagram

func newDNSProbe(d dialer, c *model.DNSCheck) (*dnsProbe, error) {
	p := &dnsProbe{dialer: d, rcode: -1}
	kind, ok := dns.StringToType[c.Type]
	if !ok {
		return nil, fmt.Errorf("%q is no type of record", c.Type)
	}
	p.question = dns.Question{Name: dns.Fqdn(c.Name), Qtype: kind, Qclass: dns.ClassINET}
	if c.RCode != model.ExpectAnyRCode {
		if p.rcode, ok = dns.StringToRcode[c.RCode]; !ok {
			return nil, fmt.Errorf("%q is no response code", c.RCode)
		}
	}
	return p, nil
}

func (p *dnsProbe) try(ctx context.Context, deadline time.Time) error {
	conn, err := p.dial(ctx, "udp", deadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	query := new(dns.Msg)
	query.Id, query.RecursionDesired = dns.Id(), true
	query.Question = []dns.Question{p.question}
	query.SetEdns0(dnsSize, false)
	data, err := query.Pack()
	if err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		return plain(err, false)
	}
	buf := make([]byte, dnsSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return plain(err, false)
		}
		// An answer to another question may be one to an earlier check that
		// comes late, or a forgery; the right one may still come.
		answer := new(dns.Msg)
		if answer.Unpack(buf[:n]) != nil && !(n >= 12 && answer.Truncated) || answer.Id != query.Id || !answer.Response {
			continue
		}
		if p.rcode >= 0 && answer.Rcode != p.rcode {
			return fmt.Errorf("the response code is %s", rcodeName(answer.Rcode))
		}
		return nil
	}
}

func rcodeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprintf("%d", code)
}
