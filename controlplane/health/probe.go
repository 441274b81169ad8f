package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"fairlead/controlplane/model"
)

// probe asks one backend one question.
type probe interface {
	// try returns nil when the answer is the right one. It returns at the
	// deadline at the latest, and soon after ctx has ended.
	try(ctx context.Context, deadline time.Time) error
}

// tools are what probes share: they are made when the first of them needs one.
type tools struct {
	tunnel  *tunnel
	echo    *echo
	program *starter
}

func newTools(ctx context.Context, cfg *Config) *tools {
	t := newTunnel(ctx, cfg)
	return &tools{tunnel: t, echo: newEcho(ctx, t), program: newStarter(ctx)}
}

func (t *tools) close() error {
	return errors.Join(t.echo.close(), t.tunnel.close())
}

// preparation is what all backends of a pool share for its check.
type preparation struct {
	check *model.Check
	body  *regexp.Regexp // nil: any
	tls   *tlsSettings
	err   error
}

func prepare(c *model.Check) *preparation {
	p := &preparation{check: c}
	if c.HTTP.Body != "" {
		p.body, p.err = regexp.Compile(c.HTTP.Body)
	}
	if c.UsesTLS() {
		p.tls = newTLSSettings(c)
	}
	return p
}

// probe makes the probe of one way to a backend.
func (p *preparation) probe(t *tools, key model.BackendKey, w Way) (probe, error) {
	if p.err != nil {
		return nil, p.err
	}
	c := p.check
	d := dialer{to: w.Address, source: c.Source, backend: key.Endpoint.Addr()}
	if d.source.IsValid() && d.source.Is4() != w.Address.Addr().Is4() {
		d.source = netip.Addr{}
	}
	if !w.Direct() {
		d.tunnel, d.way = t.tunnel, w
	}
	switch c.Type {
	case model.CheckTCP:
		return &tcpProbe{d}, nil
	case model.CheckHTTP, model.CheckHTTPS:
		return newHTTPProbe(d, p), nil
	case model.CheckTLS:
		return &tlsProbe{d, p.tls}, nil
	case model.CheckGRPC:
		return newGRPCProbe(d, p), nil
	case model.CheckUDP:
		return &udpProbe{d, &c.UDP}, nil
	case model.CheckICMP:
		return &icmpProbe{d, t.echo}, nil
	case model.CheckDNS:
		return newDNSProbe(d, &c.DNS)
	case model.CheckExec:
		return newExecProbe(t.program, c.Exec, key, w.Address), nil
	}
	return nil, fmt.Errorf("%q is no type of check", c.Type)
}

// Errors of probes that say more than the kernel's or a library's own.
var (
	errTimeout = errors.New("no answer in time")
	errEnded   = errors.New("the check was given up")
)

// plain takes out of an error what an operator knows anyway: which backend was
// asked, and by which call.
func plain(err error, connecting bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		if connecting {
			return errors.New("no connection in time")
		}
		return errTimeout
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return errEnded
	}
	if fault := (ownFault{}); errors.As(err, &fault) {
		return err
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		err = call.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return syscall.ECONNREFUSED
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return own(errors.New("the source address is not one of this node's, or has no port left"))
	}
	for _, e := range ownErrors {
		if errors.Is(err, e) {
			return own(err)
		}
	}
	return err
}

// ownErrors are the kernel's words for what this node lacks: descriptors,
// memory, rights, ports, a family.
var ownErrors = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EACCES, syscall.EAGAIN,
	syscall.EAFNOSUPPORT, syscall.EADDRINUSE,
}

// ownFault is an error that is this node's and says nothing of the backend: the
// check could not be made. It judges nobody, for the fault of one node must not
// empty its pools.
type ownFault struct{ error }

func (f ownFault) Unwrap() error { return f.error }

func own(err error) error {
	if err == nil {
		return nil
	}
	return ownFault{err}
}

// clip shortens what a server has said, so that it can be shown.
func clip(s string) string {
	const most = 80
	s = strings.ToValidUTF8(s, "?")
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", s)
}
