package main

import (
	"context"
	"errors"
	"flag"
	"net"

	"github.com/miekg/dns"
)

// serveDNS answers every question with the client's address that it sees, until it
// is asked to end.
func serveDNS(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dns", flag.ContinueOnError)
	address := flags.String("udp", ":53", "where questions are answered")
	flags.String("conf", "", "not read: that of the server whose place this one takes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", *address)
	if err != nil {
		return err
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answerDNS)}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(server.Shutdown(), <-ended)
	}
}

func answerDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	if client, ok := w.RemoteAddr().(*net.UDPAddr); ok && len(question.Question) > 0 {
		header := dns.RR_Header{Name: question.Question[0].Name, Class: dns.ClassINET, Ttl: 1}
		if four := client.IP.To4(); four != nil {
			header.Rrtype = dns.TypeA
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: four})
		} else {
			header.Rrtype = dns.TypeAAAA
			answer.Answer = append(answer.Answer, &dns.AAAA{Hdr: header, AAAA: client.IP})
		}
	}
	_ = w.WriteMsg(answer) // an answer that is lost is the client's to report
}
