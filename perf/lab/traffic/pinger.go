package traffic

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/perf/lab"
)

// PingerConfig describes a long-lived TCP connection to a StreamServer.
type PingerConfig struct {
	Target netip.AddrPort
	// Source is the client's address; the zero Addr leaves it to the kernel.
	Source netip.Addr
	// Interval is the time between two messages; 0 means 10 ms.
	Interval time.Duration
}

// Pinger is a long-lived TCP connection on which numbered messages go out and
// must come back, each once and in order. It shows whether a connection lives
// through whatever happens around it.
type Pinger struct {
	server   string
	client   netip.AddrPort
	conn     *net.TCPConn
	release  func() bool
	stopping chan struct{}
	stopOnce sync.Once

	sent, received atomic.Uint64
	longest        atomic.Int64 // nanoseconds; written by the receiver alone

	sender, receiver chan struct{} // closed when the goroutine has ended
	sendErr, recvErr error         // written before that
}

// PingReport is what a Pinger has to tell at its end.
type PingReport struct {
	Server         string
	Client         netip.AddrPort // as the server saw it
	Sent, Received uint64
	// LongestGap is the longest time between two echoes, or from the start to
	// the first.
	LongestGap time.Duration
}

// StartPinger connects from a host and goes on until Stop is called or ctx is
// done, which counts as a failure. It is stopped with the lab, too.
func StartPinger(ctx context.Context, h *lab.Host, cfg PingerConfig) (*Pinger, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 10 * time.Millisecond
	}
	conn, in, from, err := openStream(ctx, h, cfg.Source, cfg.Target, streamRequest{op: opEcho})
	if err != nil {
		return nil, fmt.Errorf("pinging %s: %w", cfg.Target, because(ctx, err))
	}
	p := &Pinger{
		server: from.server, client: from.client, conn: conn, release: bound(ctx, conn),
		stopping: make(chan struct{}), sender: make(chan struct{}), receiver: make(chan struct{}),
	}
	go p.send(ctx, cfg.Interval)
	go p.receive(in)
	h.Lab().OnClose(p.abandon)
	return p, nil
}

func (p *Pinger) send(ctx context.Context, interval time.Duration) {
	defer close(p.sender)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var message [8]byte
	for n := uint64(0); ; n++ {
		binary.BigEndian.PutUint64(message[:], n)
		// Counted first: an echo is never ahead of what was sent.
		p.sent.Add(1)
		if _, err := p.conn.Write(message[:]); err != nil {
			p.sendErr = fmt.Errorf("sending message %d: %w", n, because(ctx, err))
			return
		}
		select {
		case <-tick.C:
		case <-p.receiver:
			return // it knows what happened
		case <-p.stopping:
			p.sendErr = p.conn.CloseWrite()
			return
		}
	}
}

func (p *Pinger) receive(in *bufio.Reader) {
	defer close(p.receiver)
	var message [8]byte
	last := time.Now()
	for n := uint64(0); ; n++ {
		_, err := io.ReadFull(in, message[:])
		if err == io.EOF {
			select {
			case <-p.stopping: // asked for; whether all echoes came, the counts tell
			default:
				p.recvErr = fmt.Errorf("the server ended the connection after %d echoes", n)
			}
			return
		}
		if err != nil {
			p.recvErr = fmt.Errorf("waiting for echo %d: %w", n, err)
			return
		}
		if got := binary.BigEndian.Uint64(message[:]); got != n {
			p.recvErr = fmt.Errorf("echo %d came instead of %d", got, n)
			return
		}
		now := time.Now()
		p.longest.Store(max(p.longest.Load(), int64(now.Sub(last))))
		last = now
		p.received.Add(1)
	}
}

// Server is the name of the server at the other end.
func (p *Pinger) Server() string { return p.server }

// Received is how many echoes have come so far.
func (p *Pinger) Received() uint64 { return p.received.Load() }

// Broken is closed when the connection has ended by itself. Stop then tells why.
func (p *Pinger) Broken() <-chan struct{} { return p.receiver }

// Stop sends no more, waits for the echoes that are still out, and ends the
// connection. Its error is nil only when every message came back, in order, and
// the connection ended as it should. When ctx is done the wait is over.
func (p *Pinger) Stop(ctx context.Context) (PingReport, error) {
	p.stopOnce.Do(func() { close(p.stopping) })
	release := bound(ctx, p.conn)
	<-p.sender
	<-p.receiver
	release()
	p.release()
	err := errors.Join(p.sendErr, p.recvErr, ignoreClosed(p.conn.Close()))
	r := PingReport{
		Server: p.server, Client: p.client, Sent: p.sent.Load(), Received: p.received.Load(),
		LongestGap: time.Duration(p.longest.Load()),
	}
	if err == nil && r.Sent != r.Received {
		err = fmt.Errorf("the connection ended after %d of %d echoes", r.Received, r.Sent)
	}
	if err != nil {
		err = fmt.Errorf("pinger %s to %s (%s): %w", p.conn.LocalAddr(), p.conn.RemoteAddr(), p.server, because(ctx, err))
	}
	return r, err
}

// abandon ends a pinger that nobody has stopped.
func (p *Pinger) abandon() error {
	p.stopOnce.Do(func() { close(p.stopping) })
	p.release()
	err := ignoreClosed(p.conn.Close())
	<-p.sender
	<-p.receiver
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
