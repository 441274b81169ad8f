package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"k8s.io/client-go/rest"

	"fairlead/perf/lab"
)

// Proxy stands between clients and the API server, to make the faults that the
// network between them has.
type Proxy struct {
	control *ControlPlane
	ln      net.Listener
	wg      sync.WaitGroup

	mu     sync.Mutex
	mode   mode
	change chan struct{} // closed when mode becomes another
	pairs  map[*proxied]struct{}
}

// mode is what the proxy does with connections.
type mode int

const (
	forwarding mode = iota
	refusing        // new connections are closed at once
	frozen          // connections stay, and nothing passes
	closed
)

// proxied is one connection through the proxy.
type proxied struct{ client, server net.Conn }

func (p *proxied) close() {
	p.client.Close()
	p.server.Close()
}

// NewProxy makes a proxy that listens on a host, or (nil) outside of the lab. It
// is closed with the host's lab, or by its owner.
func (c *ControlPlane) NewProxy(h *lab.Host, address string) (*Proxy, error) {
	listen := net.Listen
	if h != nil {
		listen = h.Listen
	}
	ln, err := listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy of the API server: %w", err)
	}
	p := &Proxy{control: c, ln: ln, change: make(chan struct{}), pairs: map[*proxied]struct{}{}}
	p.wg.Go(p.accept)
	c.host.Lab().OnClose(p.Close)
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() netip.AddrPort {
	return p.ln.Addr().(*net.TCPAddr).AddrPort()
}

// REST is a configuration that goes by this proxy.
func (p *Proxy) REST(cfg *rest.Config) *rest.Config {
	by := rest.CopyConfig(cfg)
	by.Host = "https://" + p.Address().String()
	return by
}

// Cut closes all connections, and with them the watches on them. New ones are
// served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		pair.close()
	}
}

// Refuse closes all connections and takes no new ones until Forward is called.
func (p *Proxy) Refuse() {
	p.become(refusing)
	p.Cut()
}

// Freeze lets connections stay, and nothing pass, until Forward is called: what a
// client sees of a cable that has been pulled.
func (p *Proxy) Freeze() { p.become(frozen) }

// Forward ends Refuse and Freeze.
func (p *Proxy) Forward() { p.become(forwarding) }

// Close ends all connections and the listener. Calling it again does nothing.
func (p *Proxy) Close() error {
	p.become(closed)
	err := p.ln.Close()
	p.Cut()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) become(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == closed {
		return
	}
	p.mode = m
	close(p.change)
	p.change = make(chan struct{})
}

// pass returns when the proxy is not frozen, with what it is.
func (p *Proxy) pass() mode {
	for {
		p.mu.Lock()
		m, change := p.mode, p.change
		p.mu.Unlock()
		if m != frozen {
			return m
		}
		<-change
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if p.pass() != forwarding {
		return
	}
	server, err := p.control.host.Dial(context.Background(), "tcp", p.control.Address().String())
	if err != nil {
		return // no server: the client sees its connection closed
	}
	pair := &proxied{client: client, server: server}
	defer pair.close()
	p.mu.Lock()
	if p.mode == refusing || p.mode == closed {
		p.mu.Unlock()
		return
	}
	p.pairs[pair] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pairs, pair)
		p.mu.Unlock()
	}()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client) })
	p.copy(client, server)
	pair.close()
	wg.Wait()
}

// copy moves bytes one way until either side ends.
func (p *Proxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.pass()
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err == io.EOF {
			// The other way may still have something to say.
			if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	from.Close()
	to.Close()
}
